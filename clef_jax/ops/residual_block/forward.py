"""The block's forward pass as one kernel: the input is read once, the output written once."""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from clef_jax.ops.activation import swish_by_tanh
from clef_jax.ops.residual_block import chunks
from clef_jax.ops.residual_block.arrangement import Weights
from clef_jax.ops.residual_block.geometry import LANES, SPAN, Geometry
from clef_jax.ops.varying import shaped_alike


@functools.partial(jax.jit, static_argnames=("shape", "interpret"))
def forward(
    x: jax.Array, weights: Weights, expand: jax.Array, shape: Geometry, *, interpret: bool
) -> jax.Array:
    """Returns the block's output `[outputs, width, N]` for `x [T, channels, N]`.

    Args:
        x: Input, views last.
        weights: From `arrange`, matrices in the type of `x`.
        expand: The last convolution, from `out_of_middle`.
        shape: The block's shape.
        interpret: Whether to run it on any platform, slowly.
    """
    steps = shape.chunks + 1 + shape.chunks
    f32 = functools.partial(pltpu.VMEM, dtype=jnp.float32)
    own = functools.partial(pltpu.VMEM, dtype=x.dtype)
    whole = shape.chunks * shape.chunk
    return pl.pallas_call(
        functools.partial(_kernel, shape=shape),
        grid=(shape.views // LANES, steps),
        in_specs=[
            pl.BlockSpec(
                (shape.chunk_samples, shape.channels, LANES),
                lambda n, s: (jnp.minimum(s, shape.chunks - 1), 0, n),
            ),
            *(resident(w) for w in (*weights, expand)),
        ],
        out_specs=pl.BlockSpec(
            (shape.chunk, shape.width, LANES),
            lambda n, s: (jnp.maximum(s - shape.chunks - 1, 0), 0, n),
        ),
        out_shape=shaped_alike(x, (shape.outputs, shape.width, shape.views), x.dtype),
        scratch_shapes=[
            own((shape.packs, shape.before + 2 * shape.chunk_samples, shape.wide, LANES)),
            own((whole, shape.width, LANES)),
            own((whole, shape.channels, LANES)),
            f32((shape.width, LANES)),
        ],
        interpret=interpret,
        compiler_params=pltpu.CompilerParams(vmem_limit_bytes=shape.vmem_limit),
        name="residual_block_forward",
    )(x, *weights, expand)


def resident(array: jax.Array) -> pl.BlockSpec:
    """Returns the block that is all of an array, at every step."""
    return pl.BlockSpec(array.shape, lambda n, s: (0,) * array.ndim)


def _kernel(x_ref, *refs, shape: Geometry) -> None:
    weights = Weights(*refs[: len(Weights._fields)])
    expand, y_ref, recent, long, shortcut, gate = refs[len(Weights._fields) :]
    step = pl.program_id(1)
    chunk = step - shape.chunks - 1

    @pl.when(step == 0)
    def _():
        gate[...] = jnp.zeros_like(gate)

    @pl.when(step <= shape.chunks)
    def _():
        chunks.advance(recent, step, shape)

    def keep(i, x, h):
        chunks.keep_recent(recent, i, swish_by_tanh(h), shape)
        if shape.stride == 2:
            x = x.reshape(SPAN, 2, shape.channels, LANES).max(axis=1)
        shortcut[pl.ds(step * shape.chunk + i * SPAN, SPAN)] = x

    @pl.when(step < shape.chunks)
    def _():
        chunks.clear_rest(x_ref, step, shape.samples)
        chunks.reduce_channels(x_ref, weights, shape, keep)

    chunks.clear_recent(recent, step, shape)

    @pl.when((step > 0) & (step <= shape.chunks))
    def _():
        _residual(recent, weights, expand, long, gate, step - 1, shape)

    @pl.when(step == shape.chunks)
    def _():
        # The sum over time until now, the squeeze-excite's gate from here on.
        gate[...] = chunks.squeeze_excite(gate[...] / shape.outputs, weights).gate

    @pl.when(chunk >= 0)
    def _():
        _sum(long, shortcut, gate, y_ref, chunk, shape)


def _residual(recent, weights, expand, long, total, chunk, shape: Geometry) -> None:
    """Stores the last convolution's result for a late chunk, and adds up its sum over time."""

    def span(i):
        s = [
            swish_by_tanh(chunks.mix_time(recent, weights, shape, i, pack)).astype(long.dtype)
            for pack in range(shape.packs)
        ]
        y = chunks.expand_channels(jnp.stack(s), expand[...], weights.expand_bias[...], shape)
        start = chunk * shape.chunk + i * SPAN
        long[pl.ds(start, SPAN)] = y.astype(long.dtype)
        total[...] += chunks.until(y, start, shape.outputs, shape.chunk).sum(axis=0)

    chunks.loop(shape.chunk // SPAN, span)


def _sum(long, shortcut, gate, y_ref, chunk, shape: Geometry) -> None:
    """Stores a chunk of the gated residual plus the shortcut."""
    own = slice(shape.offset, shape.offset + shape.channels)

    def span(i):
        at = pl.ds(chunk * shape.chunk + i * SPAN, SPAN)
        y = long[at].astype(jnp.float32) * gate[...][None]
        here = y_ref.at[pl.ds(i * SPAN, SPAN)]
        here[...] = y.astype(y_ref.dtype)
        here[:, own] = (y[:, own] + shortcut[at].astype(jnp.float32)).astype(y_ref.dtype)

    chunks.loop(shape.chunk // SPAN, span)
