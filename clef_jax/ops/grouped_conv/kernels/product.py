"""The Pallas (Mosaic) kernel for TPU: blocks of outputs as products with windows in VMEM.

A step of its grid has a tile of channels, a registerful or two of the batch, and as many blocks of
time as VMEM takes; their input comes with a halo of the samples before and after. It is copied into
one array of windows, so that edges are zeros and the activation is computed once a sample.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from clef_jax.ops.grouped_conv.kernels.blocks import Blocks
from clef_jax.ops.grouped_conv.kernels.layout import LANES

# Samples of a halo, no fewer than any window reaches beyond its own blocks.
HALO = 16
# Blocks whose instructions the compiler may interleave.
_UNROLL = 4
_TILE_BYTES = 16 * 2**20
_VMEM_BYTES = 48 * 2**20


def toeplitz_product(
    x: jax.Array,
    w: jax.Array,
    blocks: Blocks,
    outputs: int,
    *,
    interpret: bool = False,
) -> jax.Array:
    """Returns the pass's outputs `[outputs, tiles * q, N]` in the type of `x`, summed in float32.

    Args:
        x: The pass's input `[S, tiles * p, N]`.
        w: For each tile the taps of the phases `[tiles, phases, q, taps * p]`.
        blocks: How the pass is cut.
        outputs: Length of the result.
        interpret: Whether to run without a TPU, slowly.
    """
    samples, channels, batch = x.shape
    tiles, _, width, _ = w.shape
    inner = channels // tiles
    lanes = 2 * LANES if batch % (2 * LANES) == 0 else min(batch, LANES)
    steps = _steps(blocks, outputs, (inner + width) * lanes * x.dtype.itemsize)
    taken, made = steps * blocks.span, steps * blocks.outputs
    parts = pl.cdiv(outputs, made)
    return pl.pallas_call(
        functools.partial(_kernel, blocks=blocks, steps=steps, samples=samples),
        grid=(tiles, pl.cdiv(batch, lanes), parts),
        in_specs=[
            *_halos(samples, taken, parts, (inner, lanes)),
            pl.BlockSpec((taken, inner, lanes), lambda c, n, t: (t, c, n)),
            pl.BlockSpec((None, *w.shape[1:]), lambda c, n, t: (c, 0, 0, 0)),
        ],
        out_specs=pl.BlockSpec((made, width, lanes), lambda c, n, t: (t, c, n)),
        out_shape=_varying_like(x, (outputs, tiles * width, batch)),
        scratch_shapes=[
            # Zeros that end the input may begin with the halo's last sample.
            pltpu.VMEM((2 * HALO + taken + blocks.reach, inner, lanes), x.dtype),
            pltpu.VMEM((blocks.outputs * width, blocks.reach * inner), x.dtype),
        ],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "arbitrary", "arbitrary"),
            vmem_limit_bytes=_VMEM_BYTES,
        ),
        interpret=interpret,
        name="toeplitz_product",
    )(x, x, x, w)


def _steps(blocks: Blocks, outputs: int, bytes_a_sample: int) -> int:
    """Returns how many blocks one step of the grid takes: all, or equal parts that fit in VMEM."""
    total = pl.cdiv(outputs, blocks.outputs)
    # Input and output twice, as one is computed while others move, and the windows.
    most = max(HALO, _TILE_BYTES // (3 * bytes_a_sample * max(blocks.outputs, blocks.span)))
    if total <= most:
        return total
    # Parts start where halos do.
    multiple = HALO
    return pl.cdiv(pl.cdiv(total, pl.cdiv(total, most)), multiple) * multiple


def _halos(samples: int, taken: int, parts: int, shape: tuple[int, int]) -> list[pl.BlockSpec]:
    """Returns where the samples before and after a part lie; at the ends, anywhere."""
    size = min(HALO, samples)
    a_part, last = taken // HALO, (samples - 1) // HALO

    def before(c, n, t):
        # The same block from one step to the next is not read again.
        there = t > 0
        return tuple(jnp.where(there, i, 0) for i in (t * a_part - 1, c, n))

    def after(c, n, t):
        there = t < parts - 1
        place = jnp.minimum((t + 1) * a_part, last)
        return tuple(jnp.where(there, i, 0) for i in (place, c, n))

    return [pl.BlockSpec((size, *shape), place) for place in (before, after)]


def _varying_like(x: jax.Array, shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    """Returns a result of `x`'s type that varies over the mesh axes over which `x` does."""
    kind = jax.typeof(x)
    # jax 0.9 has `vma` where later versions have `manual_axis_type`.
    name = "manual_axis_type" if hasattr(kind, "manual_axis_type") else "vma"
    varying: dict[str, Any] = {name: getattr(kind, name)}
    return jax.ShapeDtypeStruct(shape, x.dtype, **varying)


def _kernel(before, after, x, w, y, windows, matrix, *, blocks, steps, samples):
    """Computes `y` of one step; `windows` and `matrix` are scratch."""
    n, t = pl.program_id(1), pl.program_id(2)

    @pl.when((n == 0) & (t == 0))
    def _():
        _lay_out(w, matrix, blocks)

    _fill(before, x, after, windows, t=t, blocks=blocks, steps=steps, samples=samples)
    _, width, lanes = y.shape

    def make(i, _):
        window = windows[pl.ds(HALO - blocks.before + i * blocks.span, blocks.reach)]
        block = jnp.dot(
            matrix[...], window.reshape(-1, lanes), preferred_element_type=jnp.float32
        )
        block = block.reshape(blocks.outputs, width, lanes)
        y[pl.ds(i * blocks.outputs, blocks.outputs)] = block.astype(y.dtype)
        return 0

    lax.fori_loop(0, steps, make, 0, unroll=min(steps, _UNROLL))


def _fill(before, x, after, windows, *, t, blocks, steps, samples):
    """Writes part `t` of the input with its halos into `windows`, and zeros around all of it."""
    size, taken = len(before), len(x)

    def zero(start, length):
        windows[pl.ds(start, length)] = jnp.zeros((length, *x.shape[1:]), x.dtype)

    @pl.when(t == 0)
    def _():
        zero(0, HALO)

    @pl.when(t > 0)
    def _():
        windows[pl.ds(HALO - size, size)] = before[...]

    def copy(i, _):
        part = pl.ds(i * blocks.span, blocks.span)
        windows[pl.ds(HALO + i * blocks.span, blocks.span)] = x[part]
        return 0

    lax.fori_loop(0, steps, copy, 0, unroll=min(steps, _UNROLL))
    windows[pl.ds(HALO + taken, size)] = after[...]
    left = samples - t * taken

    @pl.when(left < taken + HALO)
    def _():
        zero(HALO + left, blocks.reach)


def _lay_out(w, matrix, blocks):
    """Writes the Toeplitz matrix of the taps `w [phases, q, taps * p]`."""
    matrix[...] = jnp.zeros_like(matrix)
    width = w.shape[1]
    inner = matrix.shape[1] // blocks.reach
    for row, shift in enumerate(blocks.shifts):
        phase = row % len(blocks.phases)
        columns = len(blocks.phases[phase]) * inner
        start = shift * inner
        matrix[row * width : (row + 1) * width, start : start + columns] = w[phase, :, :columns]
