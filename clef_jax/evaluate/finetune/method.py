"""Fine-tuning as a method: each row through encoder and head, one loss of the global batch."""

import functools
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from clef_jax.evaluate.finetune.inputs import Inputs
from clef_jax.evaluate.finetune.options import Options
from clef_jax.losses import supervised
from clef_jax.methods.augment import augment_view
from clef_jax.methods.method import Batch, Method, Metrics, Params
from clef_jax.models import EncoderConfig, EncoderWithHead

# (outputs, targets, axis_name) -> loss
Loss = Callable[[jax.Array, jax.Array, str | None], jax.Array]

_FOCUS = 2.0
# What pretraining adds has a size in mV. The z-scored rows are given that of an ordinary ECG.
_TYPICAL_SD_MV = 0.2


def make_model(options: Options, config: EncoderConfig, inputs: Inputs) -> EncoderWithHead:
    """Returns the network that is trained.

    Args:
        options: Which head.
        config: The encoder's.
        inputs: Their kind and classes decide how many outputs there are.
    """
    gaussian = options.loss_of(inputs.kind) == "gaussian"
    return EncoderWithHead(
        config,
        outputs=len(inputs.classes) * (2 if gaussian else 1),
        kind=options.head,
        dropout=options.dropout,
        dtype=jnp.dtype(options.dtype),
    )


def make_method(
    model: EncoderWithHead, loss: Loss, options: Options, noise: np.ndarray | None
) -> Method:
    """Returns the method. Its batches hold `x [b, T]`, prepared, and `target [b, L]`.

    Args:
        model: The network.
        loss: From `make_loss`.
        options: What is trained, and on what.
        noise: What augmentation adds, `[4, 1, M]`: the kinds of one lead; None without any.
    """

    def init(key: jax.Array, example: jax.Array, encoder: Any) -> tuple[Params, tuple]:
        params = model.init(key, example)["params"]
        return params if encoder is None else {**params, "encoder": encoder}, ()

    def encode(params: Params, carried: Any, batch: Batch, constants: Any, keys: jax.Array):
        del carried
        x = batch["x"]
        view_keys, drop_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
        if constants:
            over_rows = jax.vmap(augment_view, in_axes=(0, 0, None, None))
            x = over_rows(view_keys, x * _TYPICAL_SD_MV, jnp.int32(0), constants["noise"])
        if options.mode == "frozen":
            params = {**params, "encoder": jax.lax.stop_gradient(params["encoder"])}
        outputs = cast(jax.Array, model.apply({"params": params}, x[..., None], drop_keys))
        return {"outputs": outputs, "target": batch["target"]}

    def compare(params: Params, carried: Any, outputs: Any, axis_name: str | None):
        del params, carried
        metrics: Metrics = {}
        return loss(outputs["outputs"], outputs["target"], axis_name), metrics

    return Method(
        needs=frozenset({"target"}),
        dtype=model.dtype,
        constants={} if noise is None else {"noise": noise},
        init=init,
        encode=encode,
        loss=compare,
    )


def make_loss(options: Options, inputs: Inputs) -> Loss:
    """Returns the loss of a head's outputs for targets of these inputs.

    Raises:
        FinetuneError: Such a task cannot be trained by the loss that options name.
    """
    name = options.loss_of(inputs.kind)
    known = inputs.labels[inputs.rows("train")]
    if inputs.kind == "regression":
        return _REGRESSION[name]
    focus = _FOCUS if name == "focal" else 0.0
    if inputs.kind == "multiclass":
        counts = np.sum(known == np.arange(len(inputs.classes)), axis=0)
        weight = len(known) / (np.sum(counts > 0) * np.maximum(counts, 1))
        weighted = functools.partial(
            supervised.cross_entropy,
            class_weight=weight.astype(np.float32) if options.balanced else None,
            focus=focus,
        )
        return lambda outputs, target, axis: weighted(outputs, target[:, 0], axis_name=axis)
    positives, negatives = np.sum(known == 1, axis=0), np.sum(known == 0, axis=0)
    weight = np.where(positives, negatives / np.maximum(positives, 1), 1.0)
    of_labels = functools.partial(
        supervised.binary_cross_entropy,
        positive_weight=weight.astype(np.float32) if options.balanced else None,
        focus=focus,
    )
    return lambda outputs, target, axis: of_labels(outputs, target, axis_name=axis)


def _gaussian(outputs: jax.Array, target: jax.Array, axis: str | None) -> jax.Array:
    mean, log_variance = jnp.split(outputs, 2, axis=1)
    return supervised.gaussian(mean, log_variance, target, axis_name=axis)


_REGRESSION: dict[str, Loss] = {
    "absolute": lambda outputs, target, axis: supervised.absolute_error(
        outputs, target, axis_name=axis
    ),
    "huber": lambda outputs, target, axis: supervised.huber(outputs, target, axis_name=axis),
    "gaussian": _gaussian,
}
