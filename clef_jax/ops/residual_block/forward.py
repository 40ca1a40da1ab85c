"""The block's forward pass as one kernel: the input is read once, the output written once."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from clef_jax.ops.residual_block import chunks
from clef_jax.ops.residual_block.arrangement import Weights
from clef_jax.ops.residual_block.geometry import LANES, UNIT, VMEM_BYTES, Geometry


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
        out_shape=like((shape.outputs, shape.width, shape.views), x.dtype, x),
        scratch_shapes=[
            own((shape.packs, shape.before + 2 * shape.chunk_samples, shape.wide, LANES)),
            own((shape.packs, UNIT, shape.wide, LANES)),
            own((whole, shape.width, LANES)),
            own((whole, shape.channels, LANES)),
            f32((shape.width, LANES)),
        ],
        interpret=interpret,
        compiler_params=pltpu.CompilerParams(vmem_limit_bytes=VMEM_BYTES),
        name="residual_block_forward",
    )(x, *weights, expand)


def resident(array: jax.Array) -> pl.BlockSpec:
    """Returns the block that is all of an array, at every step."""
    return pl.BlockSpec(array.shape, lambda n, s: (0,) * array.ndim)


def like(shape: tuple[int, ...], dtype, x: jax.Array) -> jax.ShapeDtypeStruct:
    """Returns the aval of a result that varies over the mesh axes that `x` varies over."""
    kind = jax.typeof(x)
    if hasattr(kind, "manual_axis_type"):
        return jax.ShapeDtypeStruct(shape, dtype, manual_axis_type=kind.manual_axis_type)
    return jax.ShapeDtypeStruct(shape, dtype, vma=kind.vma)


def _kernel(x_ref, *refs, shape: Geometry) -> None:
    weights = Weights(*refs[: len(Weights._fields)])
    expand, y_ref, recent, s_ref, long, shortcut, gate = refs[len(Weights._fields) :]
    step = pl.program_id(1)

    @pl.when(step == 0)
    def _():
        recent[...] = jnp.zeros_like(recent)
        gate[...] = jnp.zeros_like(gate)

    @pl.when((step > 0) & (step <= shape.chunks))
    def _():
        chunks.advance(recent, shape)

    @pl.when(step < shape.chunks)
    def _():
        def use(start, x, h):
            chunks.keep_recent(recent, start, chunks.swish(h), step, shape)
            if shape.stride == 2:
                x = x.reshape(UNIT, 2, shape.channels, LANES).max(axis=1)
            at = pl.ds(step * shape.chunk + lax.div(start, shape.stride), UNIT)
            shortcut[at] = x

        chunks.reduce_channels(x_ref, weights, step, shape, use)

    @pl.when(step == shape.chunks)
    def _():
        chunks.clear_new(recent, shape)

    @pl.when((step > 0) & (step <= shape.chunks))
    def _():
        _residual(recent, s_ref, weights, expand, long, gate, step - 1, shape)

    @pl.when(step == shape.chunks)
    def _():
        # The sum over time until now, the squeeze-excite's gate from here on.
        gate[...] = chunks.squeeze_excite(gate[...] / shape.outputs, weights, long.dtype).gate

    @pl.when(step > shape.chunks)
    def _():
        _sum(long, shortcut, gate, y_ref, step - shape.chunks - 1, shape)


def _residual(recent, s_ref, weights, expand, long, total, chunk, shape: Geometry) -> None:
    """Stores the last convolution's result for a late chunk, and adds up its sum over time."""

    def unit(u):
        start = chunk * shape.chunk + u * UNIT

        def keep(pack, h):
            s_ref[pack] = chunks.swish(h).astype(s_ref.dtype)

        def add(t, y):
            long[pl.ds(start + t, len(y))] = y.astype(long.dtype)
            if shape.outputs % shape.chunk:
                y = chunks.where_valid(y, start + t, shape.outputs)
            total[...] += y.sum(axis=0)

        chunks.mix_time(recent, weights, shape, u, keep)
        chunks.expand_channels(s_ref, expand, weights.expand_bias, shape, add)

    chunks.loop(shape.chunk // UNIT, unit)


def _sum(long, shortcut, gate, y_ref, chunk, shape: Geometry) -> None:
    """Stores a chunk of the gated residual plus the shortcut."""
    own = slice(shape.offset, shape.offset + shape.channels)

    def unit(u):
        at = pl.ds(chunk * shape.chunk + u * UNIT, UNIT)
        y = long[at].astype(jnp.float32) * gate[...]
        y_ref[pl.ds(u * UNIT, UNIT)] = y.astype(y_ref.dtype)
        y = y[:, own] + shortcut[at].astype(jnp.float32)
        y_ref[pl.ds(u * UNIT, UNIT), own] = y.astype(y_ref.dtype)

    chunks.loop(shape.chunk // UNIT, unit)
