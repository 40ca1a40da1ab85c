"""The compiled step: every row on its device, one loss of the global batch, one update."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from clef_jax import hosts
from clef_jax.hardware import compiling
from clef_jax.methods import Method, row_keys
from clef_jax.methods.method import Batch, Metrics, Params
from clef_jax.ops.precision import multiply_as
from clef_jax.train.placement import gather
from clef_jax.train.state import TrainState


def make_encode_rows(
    method: Method, *, seed: int, rows_at_once: int = 0
) -> Callable[[Params, Any, jax.Array, Batch, Any], Any]:
    """Returns the method's `encode` of one device's rows, to be called inside `shard_map`.

    A part at a time, rows are encoded without what gradients need of them; once the loss of all
    outputs and its gradient by them are known, each part is encoded again and its gradient added.
    So the loss is the whole batch's, and memory for what an encoder computes is one part's.

    Args:
        method: What is learnt.
        seed: Of the rows' random draws.
        rows_at_once: Rows of a part, which divide the device's; 0 has all in one.

    References:
        Gao et al., Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup, 2021.

    Returns:
        A function of (params, carried, step, this device's batch `[b]`, constants) to outputs.
    """

    def encode_rows(params, carried, step, batch, constants):
        count = jax.tree.leaves(batch)[0].shape[0]
        rows = lax.axis_index(hosts.DATA_AXIS) * count + jnp.arange(count)
        keys = row_keys(seed, step, rows)
        if rows_at_once in (0, count):
            return method.encode(params, carried, batch, constants, keys)

        # Within a scan nothing else could be taken for what is computed again.
        @functools.partial(jax.checkpoint, prevent_cse=False)
        def encode(params, batch, keys):
            return method.encode(params, carried, batch, constants, keys)

        parts = jax.tree.map(
            lambda x: x.reshape(count // rows_at_once, rows_at_once, *x.shape[1:]), (batch, keys)
        )
        outputs = lax.map(lambda part: encode(params, *part), parts)
        return jax.tree.map(lambda x: x.reshape(count, *x.shape[2:]), outputs)

    return encode_rows


def make_train_step(
    method: Method,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    *,
    seed: int,
    ema_decay: float | None = None,
    shardings: TrainState | None = None,
    rows_at_once: int = 0,
) -> Callable[[TrainState, Batch, Any], tuple[TrainState, Metrics]]:
    """Returns the jitted step (state, batch, constants) -> (state, metrics); it consumes `state`.

    Args:
        method: What is learnt.
        optimizer: From `train.optim`.
        mesh: From `hosts.data_mesh`.
        seed: Seed of the rows' random draws.
        ema_decay: Decay of the moving average of the weights, for states that carry one.
        shardings: Where the state lies, from `placement.state_shardings`; whole on every device by
            default.
        rows_at_once: Rows that a device encodes at once, see `make_encode_rows`; 0 for all.

    Returns:
        The step. `batch` holds global arrays as `data.batches.stream` describes, without
        `record`; `constants` are the method's, on every device; metrics are `loss`, the method's
        own, and `grad_norm` (before clipping).
    """
    encode_rows = make_encode_rows(method, seed=seed, rows_at_once=rows_at_once)
    whole = hosts.replicated(mesh)
    specs = P() if shardings is None else jax.tree.map(lambda s: s.spec, shardings.params)

    def loss(parts, carried, step, batch, constants):
        params = gather(parts, specs)
        outputs = encode_rows(params, carried, step, batch, constants)
        value, metrics = method.loss(params, carried, outputs, hosts.DATA_AXIS)
        return value, (metrics, outputs)

    # shard_map, because the automatic partitioner replicates grouped convolutions: every device
    # would compute the whole batch.
    gradients = jax.shard_map(
        jax.value_and_grad(loss, has_aux=True),
        mesh=mesh,
        in_specs=(specs, P(), P(), P(hosts.DATA_AXIS), P()),
        out_specs=((P(), (P(), P(hosts.DATA_AXIS))), specs),
    )

    def step(state: TrainState, batch: Batch, constants: Any) -> tuple[TrainState, Metrics]:
        with multiply_as(method.dtype):
            (value, (metrics, outputs)), grads = gradients(
                state.params, state.carried, state.step, batch, constants
            )
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if ema is not None and ema_decay is not None:
            ema = optax.incremental_update(params, ema, 1 - ema_decay)
        state = TrainState(
            step=state.step + 1,
            params=params,
            opt_state=opt_state,
            carried=method.after_update(params, state.carried, outputs),
            ema=ema,
        )
        return state, {"loss": value, **metrics, "grad_norm": optax.tree.norm(grads)}

    # Left to the compiler, a queue would come out split, and the next step be compiled for that.
    return jax.jit(
        step,
        donate_argnums=0,
        out_shardings=(shardings or whole, whole),
        compiler_options=compiling.step_options(mesh.devices.flat[0].platform, mesh.size),
    )
