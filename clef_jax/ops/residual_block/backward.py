"""The block's backward pass as one kernel, which keeps nothing of the forward pass but its input.

Two sweeps over time. The first computes the forward pass again up to its last convolution, for the
gradient of squeeze-excite's gate, which depends on all of time. It keeps what the activations in
the middle were given; the second replaces these by their slopes and gradients.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from clef_jax.ops.residual_block import chunks
from clef_jax.ops.residual_block.arrangement import Maps, Weights
from clef_jax.ops.residual_block.first_sweep import (
    Scratch,
    first_activation,
    gate_gradient,
    squeeze_excite,
)
from clef_jax.ops.residual_block.forward import resident
from clef_jax.ops.residual_block.geometry import LANES, Geometry
from clef_jax.ops.residual_block.second_sweep import (
    first_convolutions,
    last_convolution,
    slope_of_first,
)
from clef_jax.ops.varying import shaped_alike


@functools.partial(jax.jit, static_argnames=("shape", "interpret"))
def backward(
    x: jax.Array, dy: jax.Array, weights: Weights, maps: Maps, shape: Geometry, *, interpret: bool
) -> tuple[jax.Array, Weights]:
    """Returns the gradients for `x` and, float32, for `weights`.

    Arguments are `forward`'s, and the result's gradient `dy [outputs, width, N]`.
    """
    turn, last = shape.chunks + 1, shape.chunks - 1
    total = pltpu.VMEM((shape.width, LANES), jnp.float32)

    def middle(time: int):
        return pltpu.VMEM((shape.packs, time, shape.wide, LANES), x.dtype)

    def block_of_x(n, s):
        """New in the first sweep, one chunk late in the second."""
        return jnp.where(s < turn, jnp.minimum(s, last), jnp.maximum(s - turn - 1, 0)), 0, n

    def block_of_dy(n, s):
        """One chunk late in the first sweep, new in the second."""
        return jnp.where(s < turn, jnp.maximum(s - 1, 0), jnp.minimum(s - turn, last)), 0, n

    inputs = (shape.chunk_samples, shape.channels, LANES)
    dx, *gradients = pl.pallas_call(
        functools.partial(_kernel, shape=shape),
        grid=(shape.views // LANES, 2 * turn),
        in_specs=[
            pl.BlockSpec(inputs, block_of_x),
            pl.BlockSpec((shape.chunk, shape.width, LANES), block_of_dy),
            *(resident(w) for w in (*weights, *maps)),
        ],
        out_specs=[
            pl.BlockSpec(inputs, lambda n, s: (jnp.maximum(s - turn - 1, 0), 0, n)),
            *(resident(w) for w in weights),
        ],
        out_shape=[
            shaped_alike(x, x.shape, x.dtype),
            *(shaped_alike(x, w.shape, jnp.float32) for w in weights),
        ],
        scratch_shapes=list(
            Scratch(
                recent=middle(shape.before + 2 * shape.chunk_samples),
                early=middle(shape.chunks * shape.chunk_samples),
                late=middle(shape.earlier + shape.chunks * shape.chunk + shape.later),
                dy=pltpu.VMEM((shape.chunk, shape.width, LANES), x.dtype),
                total=total,
                d_gate=total,
            )
        ),
        interpret=interpret,
        compiler_params=pltpu.CompilerParams(vmem_limit_bytes=shape.vmem_limit),
        name="residual_block_backward",
    )(x, dy, *weights, *maps)
    return dx, Weights(*gradients)


def _kernel(x_ref, dy_ref, *refs, shape: Geometry) -> None:
    rest = iter(refs)

    def take(kind: Any) -> Any:
        return kind(*(next(rest) for _ in kind._fields))

    weights, maps = take(Weights), take(Maps)
    dx_ref, gradients, own = next(rest), take(Weights), take(Scratch)
    step, turn = pl.program_id(1), shape.chunks + 1
    again = step - turn

    @pl.when((pl.program_id(0) == 0) & (step == 0))
    def _():
        for gradient in gradients:
            gradient[...] = jnp.zeros_like(gradient)

    @pl.when(step == 0)
    def _():
        for edge in (slice(shape.earlier), slice(-shape.later, None)):
            own.late[:, edge] = jnp.zeros_like(own.late[:, edge])
        for total in (own.total, own.d_gate):
            total[...] = jnp.zeros_like(total)

    @pl.when(step < turn)
    def _():
        chunks.advance(own.recent, step, shape)

    @pl.when(step < shape.chunks)
    def _():
        chunks.clear_rest(x_ref, step, shape.samples)
        first_activation(x_ref, weights, own, step, shape)

    @pl.when(step < turn)
    def _():
        chunks.clear_recent(own.recent, step, shape)

    @pl.when((step > 0) & (step < turn))
    def _():
        chunks.clear_rest(dy_ref, step - 1, shape.outputs)
        gate_gradient(dy_ref, weights, maps, own, step - 1, shape)

    @pl.when(step == shape.chunks)
    def _():
        squeeze_excite(weights, gradients, own, shape)

    @pl.when(again >= 0)
    def _():
        chunks.advance(own.recent, again, shape)

    @pl.when((again >= 0) & (again < shape.chunks))
    def _():
        chunks.clear_rest(dy_ref, again, shape.outputs)
        last_convolution(dy_ref, weights, gradients, own, again, shape)
        slope_of_first(own, again, shape)

    @pl.when(again >= 0)
    def _():
        chunks.clear_recent(own.recent, again, shape)

    @pl.when(again > 0)
    def _():
        chunks.clear_rest(x_ref, again - 1, shape.samples)
        first_convolutions(x_ref, maps, gradients, own, dx_ref, again - 1, shape)

    @pl.when((again >= 0) & (again < shape.chunks))
    def _():
        own.dy[...] = dy_ref[...]
