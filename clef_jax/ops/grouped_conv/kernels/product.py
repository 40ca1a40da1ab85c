"""The Pallas (Mosaic) kernel for TPU: blocks of outputs as products with windows in VMEM.

A step of its grid has a tile of channels, one or two registers' width of the batch, and as many
blocks of time as VMEM takes, with a halo of the samples before and after. While one block is
multiplied, the input of a later one is copied into the array of windows, so that edges are zeros,
and activations are computed once a sample in the shade of the products.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from clef_jax.ops.activation import swish_and_slope_by_tanh, swish_by_tanh
from clef_jax.ops.grouped_conv.kernels.blocks import Blocks
from clef_jax.ops.grouped_conv.kernels.layout import LANES
from clef_jax.ops.varying import shaped_alike

# Samples of a halo, no fewer than any window reaches beyond its own blocks.
HALO = 8
# Blocks whose instructions the compiler may interleave: by twos, the matrix units wait a third of
# the time.
_UNROLL = 8
# Of 64 MiB or more (`vmem.capacity`): what is left keeps arrays of other operations.
_VMEM_BYTES = 40 << 20


@functools.partial(
    jax.jit, static_argnames=("blocks", "outputs", "activate", "tile_bytes", "interpret")
)
def toeplitz_product(
    x: jax.Array,
    w: jax.Array,
    blocks: Blocks,
    outputs: int,
    *,
    activate: bool = False,
    bias: jax.Array | None = None,
    activated: jax.Array | None = None,
    tile_bytes: int = 24 << 20,
    interpret: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """Returns a pass's outputs, rounded from float32 to the type of `x`, and sums of its input.

    Args:
        x: The pass's input `[S, tiles * p, N]`.
        w: For each tile the taps of the phases `[tiles, phases, q, taps * p]`.
        blocks: How the pass is cut.
        outputs: Length of the result.
        activate: Whether to multiply swish(x) instead of x.
        bias: What to add to the outputs, `[tiles * q]`.
        activated: Values `[outputs, tiles * q, N]` by swish's slope at which to scale the outputs.
        tile_bytes: VMEM for the input, the outputs and the windows of a step of the grid.
        interpret: Whether to run without a TPU, slowly.

    Returns:
        Outputs `[outputs, tiles * q, N]`, and x summed over time, `[tiles * p, N]` in float32.
    """
    samples, channels, batch = x.shape
    tiles, _, width, _ = w.shape
    inner = channels // tiles
    lanes = 2 * LANES if batch % (2 * LANES) == 0 else min(batch, LANES)
    # Arrays are there twice, as one tile is computed while others move; windows once.
    arrays = 3 * inner + (2 if activated is None else 4) * width
    steps = _steps(blocks, outputs, tile_bytes // (arrays * lanes * x.dtype.itemsize))
    taken, made = steps * blocks.span, steps * blocks.outputs
    parts = pl.cdiv(outputs, made)
    halos = _halos(samples, taken, (inner, lanes)) if parts > 1 else []
    out_spec = pl.BlockSpec((made, width, lanes), lambda c, n, t: (t, c, n))
    beside, beside_specs = {}, {}
    if bias is not None:
        beside["bias"] = bias.astype(jnp.float32)[:, None]
        beside_specs["bias"] = pl.BlockSpec((width, 1), lambda c, n, t: (c, 0))
    if activated is not None:
        beside["activated"], beside_specs["activated"] = activated, out_spec
    kernel = functools.partial(
        _kernel,
        blocks=blocks,
        steps=steps,
        samples=samples,
        activate=activate,
        unroll=1 if interpret else _UNROLL,
    )
    return pl.pallas_call(
        kernel,
        grid=(tiles, pl.cdiv(batch, lanes), parts),
        in_specs=[
            pl.BlockSpec((taken, inner, lanes), lambda c, n, t: (t, c, n)),
            halos,
            pl.BlockSpec((None, *w.shape[1:]), lambda c, n, t: (c, 0, 0, 0)),
            beside_specs,
        ],
        out_specs=[out_spec, pl.BlockSpec((inner, lanes), lambda c, n, t: (c, n))],
        out_shape=[
            shaped_alike(x, (outputs, tiles * width, batch), x.dtype),
            shaped_alike(x, (channels, batch), jnp.float32),
        ],
        scratch_shapes=[
            pltpu.VMEM((2 * HALO + taken + blocks.reach, inner, lanes), x.dtype),
            pltpu.VMEM((blocks.outputs * width, blocks.reach * inner), x.dtype),
        ],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "arbitrary", "arbitrary"),
            vmem_limit_bytes=_VMEM_BYTES,
        ),
        interpret=interpret,
        name="toeplitz_product",
    )(x, [x] * len(halos), w, beside)


def _steps(blocks: Blocks, outputs: int, most_samples: int) -> int:
    """Returns how many blocks one step of the grid takes: all, or about equal parts that fit."""
    total = pl.cdiv(outputs, blocks.outputs)
    most = max(HALO, most_samples // max(blocks.outputs, blocks.span))
    if total <= most:
        return total
    # Parts start where halos do.
    multiple = HALO // math.gcd(HALO, blocks.span)
    return pl.cdiv(pl.cdiv(total, pl.cdiv(total, most)), multiple) * multiple


def _halos(samples: int, taken: int, shape: tuple[int, int]) -> list[pl.BlockSpec]:
    """Returns where the samples before and after a part lie; beyond the ends, anywhere."""
    a_part, last = taken // HALO, (samples - 1) // HALO
    return [
        pl.BlockSpec((HALO, *shape), lambda c, n, t: (jnp.maximum(t * a_part - 1, 0), c, n)),
        pl.BlockSpec((HALO, *shape), lambda c, n, t: (jnp.minimum((t + 1) * a_part, last), c, n)),
    ]


def _kernel(
    x, halos, w, beside, y, sums, windows, matrix, *, blocks, steps, samples, activate, unroll
):
    """Computes one step's `y` and adds to its `sums`; `windows` and `matrix` are scratch."""
    n, t = pl.program_id(1), pl.program_id(2)
    taken, inner, lanes = x.shape
    put = functools.partial(_put, windows, samples - t * taken, activate)

    @pl.when((n == 0) & (t == 0))
    def _():
        _lay_out(w, matrix, blocks)

    def zero(start, stop):
        windows[pl.ds(start, stop - start)] = jnp.zeros((stop - start, inner, lanes), x.dtype)

    @pl.when(t == 0)
    def _():
        sums[...] = jnp.zeros_like(sums)
        zero(0, HALO)

    zero(HALO + taken, len(windows))
    if halos:
        before, after = halos

        @pl.when(t > 0)
        def _():
            put(-HALO, before[...])

        put(taken, after[...])

    def fill(i):
        start = i * blocks.span
        sums[...] += put(start, x[pl.ds(start, blocks.span)])

    def make(i):
        start, stop = HALO - blocks.before + i * blocks.span, blocks.reach
        block = _multiply(matrix[...], windows[pl.ds(start, stop)])
        at = pl.ds(i * blocks.outputs, blocks.outputs)
        block = block.reshape(blocks.outputs, *y.shape[1:])
        if "bias" in beside:
            block += beside["bias"][...][None]
        if "activated" in beside:
            block *= swish_and_slope_by_tanh(beside["activated"][at].astype(jnp.float32))[1]
        y[at] = block.astype(y.dtype)

    def make_and_fill(i, _):
        fill(i + ahead)
        make(i)
        return _

    # A window ends within so many blocks' input.
    ahead = min(steps, pl.cdiv(blocks.reach - blocks.before, blocks.span))
    for i in range(ahead):
        fill(i)
    both = steps - ahead
    lax.fori_loop(0, both, make_and_fill, 0, unroll=max(1, min(both, unroll)))
    for i in range(both, steps):
        make(i)


def _put(windows, left, activate, start, part):
    """Writes samples from `start` on into the windows, zeros from `left` on; returns their sum."""
    row = lax.broadcasted_iota(jnp.int32, part.shape, 0)
    part = jnp.where(row < left - start, part.astype(jnp.float32), 0)
    seen = swish_by_tanh(part) if activate else part
    windows[pl.ds(HALO + start, len(part))] = seen.astype(windows.dtype)
    return part.sum(axis=0)


def _multiply(matrix, window):
    """Returns `matrix [M, reach * p]` times `window [reach, p, lanes]`, summed in float32."""
    return jnp.dot(
        matrix,
        window.reshape(-1, window.shape[-1]),
        precision=lax.Precision.HIGHEST if matrix.dtype == jnp.float32 else None,
        preferred_element_type=jnp.float32,
    )


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
