"""The compiled step: augment, encode, compare over the global batch, update."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from clef_jax import hosts
from clef_jax.ops.precision import multiply_as
from clef_jax.train import augment
from clef_jax.train.state import TrainState

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]
# (z [2b, D], risk [b], completeness [b], axis_name=...) -> (loss, parts)
Objective = Callable[..., tuple[jax.Array, Metrics]]


def make_embed_views(
    model: nn.Module, *, seed: int
) -> Callable[[Any, jax.Array, Batch, jax.Array], jax.Array]:
    """Returns the embeddings of one device's rows, to be called inside `shard_map`.

    Returns:
        A function of (params, step, this device's batch `[b]`, noise bank) to embeddings `[2b, D]`,
        of which rows 2i and 2i + 1 are the augmented views of row i.
    """

    def embed_views(params, step, batch, noise):
        count = batch["risk"].shape[0]
        rows = lax.axis_index(hosts.DATA_AXIS) * count + jnp.arange(count)
        x = augment.augment_batch(seed, step, rows, batch, noise)
        return model.apply({"params": params}, x)

    return embed_views


def make_loss(
    model: nn.Module, objective: Objective, *, seed: int
) -> Callable[[Any, jax.Array, Batch, jax.Array], tuple[jax.Array, Metrics]]:
    """Returns the loss of one device's rows, to be called inside `shard_map`.

    Returns:
        A function of (params, step, this device's batch, noise bank) to the loss of the *global*
        batch and its parts, which are the same on every device.
    """
    embed_views = make_embed_views(model, seed=seed)

    def loss(params, step, batch, noise):
        z = embed_views(params, step, batch, noise)
        value, parts = objective(z, batch["risk"], batch["completeness"], axis_name=hosts.DATA_AXIS)
        known = lax.pmean(jnp.mean(jnp.isfinite(batch["risk"])), hosts.DATA_AXIS)
        return value, {**parts, "known_risk": known}

    return loss


def make_train_step(
    model: nn.Module,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    *,
    seed: int,
    ema_decay: float | None = None,
) -> Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]:
    """Returns the jitted step (state, batch, noise) -> (state, metrics); it consumes `state`.

    Args:
        model: The encoder.
        objective: A loss of `clef_jax.losses`, with its options filled in.
        optimizer: From `train.optim`.
        mesh: From `parallel.data_mesh`.
        seed: Seed of the augmentation.
        ema_decay: Decay of the moving average of the weights, for states that carry one.

    Returns:
        The step. `batch` holds global arrays as `data.batches.stream` describes, without
        `record`; metrics are `loss`, the objective's parts, `known_risk` (share of records) and
        `grad_norm` (before clipping).
    """
    # shard_map, because the automatic partitioner replicates grouped convolutions: every device
    # would compute the whole batch.
    gradients = jax.shard_map(
        jax.value_and_grad(make_loss(model, objective, seed=seed), has_aux=True),
        mesh=mesh,
        in_specs=(P(), P(), P(hosts.DATA_AXIS), P()),
        out_specs=(P(), P()),
    )

    def step(state: TrainState, batch: Batch, noise: jax.Array) -> tuple[TrainState, Metrics]:
        with multiply_as(model.dtype):
            (loss, parts), grads = gradients(state.params, state.step, batch, noise)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if ema is not None:
            ema = optax.incremental_update(params, ema, 1 - ema_decay)
        state = TrainState(step=state.step + 1, params=params, opt_state=opt_state, ema=ema)
        return state, {"loss": loss, **parts, "grad_norm": optax.tree.norm(grads)}

    return jax.jit(step, donate_argnums=0)
