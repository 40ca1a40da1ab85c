"""What a step learns by: the interface between the compiled step and a method of pretraining.

The step (`train.step`) knows no model, view or label. It hands a method the rows of a batch, each
with a random key of its own, and asks for one loss of the global batch; what is compared with what,
by which networks and with which memory, is the method's.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from jax.typing import DTypeLike

from clef_jax.errors import ClefError

Params = dict[str, Any]
Batch = Mapping[str, jax.Array]
Metrics = dict[str, jax.Array]


class MethodError(ClefError):
    """A method or option that there is not; the message names the key, its value and the choices.

    Keys begin with `method.`, as in the configuration.
    """


def keep_carried(params: Params, carried: Any, outputs: Any) -> Any:
    """Returns `carried` as it is: the `after_update` of methods without memory."""
    del params, outputs
    return carried


class Method(NamedTuple):
    """A way to learn an encoder, as pure functions of arrays.

    A batch's way is split in two. `encode` takes each row by itself, on the device that holds it;
    `loss` compares what became of the rows. In training both run inside one `shard_map`; in
    validation `loss` sees all rows on every device, so that batches need not divide by devices.

    Attributes:
        needs: Annotation columns that `encode` reads of a batch besides its signals, such as
            {"risk"}.
        dtype: Type in which the networks multiply, for `ops.precision.multiply_as`.
        constants: Host arrays that every step needs whole on every device and none changes: noise,
            frozen networks. They are neither saved nor compiled in.
        init: (key, example, encoder) -> (params, carried). `example [1, T, C]` is an input of the
            encoder. `encoder` holds its parameters where it does not start from random ones, else
            it is None. `params` is {"encoder": …} and whatever else is trained, "head" for one;
            `carried` is what goes from step to step untrained: a queue, a target network, or ().
        encode: (params, carried, batch, constants, keys) -> outputs, for some rows of a batch.
            `batch` holds arrays `[b, ...]` as `data.batches.stream` describes, `keys [b]` a random
            key for each row; outputs are arrays `[b, ...]` in any nesting.
        loss: (params, carried, outputs, axis_name) -> (loss, metrics), scalars of the *global*
            batch and the same on every device. With an `axis_name` outputs are this device's rows
            of it, else all of them.
        after_update: (params, carried, outputs) -> carried, after the optimiser's update, with the
            outputs of the global batch, from before the update.

    Example:
        >>> import numpy as np
        >>> from clef_jax.methods import read_options
        >>> from clef_jax.models import create_model
        >>> noise = np.zeros((4, 15, 5000), np.float32)
        >>> method = read_options({"name": "clef"}).create(create_model("clef_small"), noise)
        >>> sorted(method.needs), sorted(method.constants)
        (['risk'], ['noise'])
    """

    needs: frozenset[str]
    dtype: DTypeLike
    constants: Any
    init: Callable[[jax.Array, jax.Array, Any], tuple[Params, Any]]
    encode: Callable[[Params, Any, Batch, Any, jax.Array], Any]
    loss: Callable[[Params, Any, Any, str | None], tuple[jax.Array, Metrics]]
    after_update: Callable[[Params, Any, Any], Any] = keep_carried


def row_keys(seed: int, step: jax.Array, rows: jax.Array) -> jax.Array:
    """Returns one random key for each global row `[n]` of a step's batch.

    So that a row's draw depends on the run's seed, the step and the row alone, not on the device
    that computes it.

    Example:
        >>> import jax.numpy as jnp
        >>> step = jnp.int32(7)
        >>> keys = row_keys(0, step, jnp.arange(4))
        >>> bool((keys[2:] == row_keys(0, step, jnp.arange(2, 4))).all())
        True
    """
    key = jax.random.fold_in(jax.random.key(seed), step)
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, rows)
