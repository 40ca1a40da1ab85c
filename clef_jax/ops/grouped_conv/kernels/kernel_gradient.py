"""The gradient of a grouped convolution's kernel, as a Pallas kernel for TPU.

It is a sum over views n and time t: `dW[k] = sum of x[n, t * stride + k - padding] dy[n, t]`. XLA
keeps views in lanes, so both factors lie as a matrix unit wants them. One product, summed over the
lanes, pairs the channels of 8 inputs in a row with those of all outputs that see any of them
(`pairing`); its sums over blocks of time and of views stay in VMEM, and become taps at the end.
With 16 taps and stride 1, 16 in 23 of the pairs are of use. Groups of fewer than 16 channels share
a product, of which only a part is of use: still in less time than reading the arrays takes.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from clef_jax.ops.activation import swish_by_tanh
from clef_jax.ops.grouped_conv.folding import Geometry
from clef_jax.ops.grouped_conv.kernels.layout import LANES, groups_of_a_tile, lanes_last
from clef_jax.ops.grouped_conv.kernels.pairing import SPAN, STEP, Pairing
from clef_jax.ops.grouped_conv.packing import unpack_kernel
from clef_jax.ops.varying import shaped_alike

# Of x at a time in VMEM: enough to outlast the start of a step, soon enough there for the first.
_TILE_BYTES = 3 << 19
# A quarter of a v5e's, half of a v5p's: what is left keeps arrays of other operations.
_VMEM_BYTES = 32 << 20
# Of it, what sums and taps take: those of short recordings' wide groups are more than their tiles.
_SUMS_BYTES = 20 << 20


@functools.partial(jax.jit, static_argnames=("stride", "groups", "activate", "interpret"))
def kernel_gradient(
    x: jax.Array,
    kernel: jax.Array,
    dy: jax.Array,
    stride: int,
    groups: int,
    *,
    activate: bool = False,
    interpret: bool = False,
) -> jax.Array:
    """Returns the gradient for `kernel`, of its shape and type, summed in float32.

    Args:
        x: Input `[N, T, C]` in bfloat16 or float32, C a multiple of 16.
        kernel: Taps `[K, C / groups, C]`; no value of it is used.
        dy: Cotangent `[N, ceil(T / stride), C]` of the SAME convolution, of the type of `x`.
        stride: Step between outputs, in samples: 1, 2, 4 or 8.
        groups: Number of channel groups, each of a divisor or a multiple of 16 channels.
        activate: Whether the convolution was that of swish(x).
        interpret: Whether to run without a TPU, slowly.
    """
    taps, width, _ = kernel.shape
    padding = Geometry(x.shape[1], taps, stride, groups, 1).padding[0]
    pairing = Pairing(x.shape[1], taps, stride, padding)
    shared = groups_of_a_tile(width)
    channels = shared * width
    x, dy = (lanes_last(_fill_lanes(a)) for a in (x, dy))
    w = _correlate(x, dy, channels, pairing, activate=activate, interpret=interpret)
    w = w.reshape(-1, taps * channels).T.reshape(taps, channels, -1)
    # Of groups that shared a product, each is wanted with itself only.
    return unpack_kernel(w, groups, groups // shared).astype(kernel.dtype)


def _fill_lanes(x: jax.Array) -> jax.Array:
    """Returns `x [N, T, C]` with views of zeros to fill products, but for less than one."""
    views = x.shape[0]
    return jnp.pad(x, ((0, -views % LANES if views > LANES else 0), (0, 0), (0, 0)))


class _Tiling(NamedTuple):
    """What VMEM holds at a time: several groups of short recordings, several steps of long ones.

    Attributes:
        groups: Groups, or sets of those that share a product.
        steps: Steps.
        tiles: Tiles of so many steps, one after the other.
    """

    groups: int
    steps: int
    tiles: int


def _tiling(group_bytes: int, groups: int, channels: int, pairing: Pairing) -> _Tiling:
    # The taps twice, as those of a step are stored while the next one's are summed.
    sums_bytes = 4 * channels**2 * (pairing.rows * SPAN + 2 * pairing.taps)
    most = max(1, min(_TILE_BYTES // group_bytes, _SUMS_BYTES // sums_bytes))
    at_once = max(n for n in range(1, groups + 1) if groups % n == 0 and n <= most)
    steps = pl.cdiv(pairing.steps, pl.cdiv(group_bytes, _TILE_BYTES))
    return _Tiling(at_once, steps, pl.cdiv(pairing.steps, steps))


def _correlate(
    x: jax.Array,
    dy: jax.Array,
    channels: int,
    pairing: Pairing,
    *,
    activate: bool,
    interpret: bool,
) -> jax.Array:
    """Returns sums `[g, channels of dy, taps * channels of x]` over x `[T, C, N]`, dy alike."""
    samples, width, views = x.shape
    groups, lanes, taps = width // channels, min(views, LANES), pairing.taps
    group_bytes = samples * channels * lanes * x.dtype.itemsize
    tiling = _tiling(group_bytes, groups, channels, pairing)
    own, last = tiling.groups * channels, tiling.steps * STEP - 1
    inputs = min(samples, tiling.steps * STEP * SPAN)
    rows = min(pairing.outputs, pairing.first_row(last) - pairing.first_row(0) + pairing.rows)

    def first_row(tile):
        if tiling.tiles == 1:
            return 0
        row = pairing.first_row(tile * tiling.steps * STEP)
        return jnp.clip(row, 0, pairing.outputs - rows)

    return pl.pallas_call(
        functools.partial(
            _kernel, pairing=pairing, tiling=tiling, first_row=first_row, activate=activate
        ),
        grid=(width // own, views // lanes, tiling.tiles),
        in_specs=[
            pl.BlockSpec((inputs, own, lanes), lambda g, n, t: (t, g, n)),
            # By elements, as rows of neighbouring tiles overlap.
            pl.BlockSpec(
                (pl.Element(rows), pl.Element(own), pl.Element(lanes)),
                # A few views are a piece by themselves, which starts nowhere else.
                lambda g, n, t: (first_row(t), g * own, n * lanes if lanes < views else 0),
            ),
        ],
        out_specs=pl.BlockSpec(
            (tiling.groups, channels, taps * channels), lambda g, n, t: (g, 0, 0)
        ),
        out_shape=shaped_alike(x, (groups, channels, taps * channels), jnp.float32),
        scratch_shapes=[
            pltpu.VMEM((tiling.groups, pairing.rows * channels, SPAN * channels), jnp.float32)
        ],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "arbitrary", "arbitrary"),
            vmem_limit_bytes=_VMEM_BYTES,
        ),
        cost_estimate=pl.CostEstimate(
            flops=2 * views * pairing.outputs * taps * width * channels,
            bytes_accessed=x.nbytes + dy.nbytes,
            transcendentals=x.size if activate else 0,
        ),
        interpret=interpret,
        name="kernel_gradient",
    )(x, dy)


def _kernel(x, dy, taps, sums, *, pairing: Pairing, tiling: _Tiling, first_row, activate: bool):
    """Adds the pairs of a tile to `sums`; the last tile's turn makes them the taps."""
    n, t = pl.program_id(1), pl.program_id(2)
    channels = taps.shape[1]
    origin = 0 if tiling.tiles == 1 else t * tiling.steps * STEP * SPAN
    inside = pairing.inside()

    @pl.when((n == 0) & (t == 0))
    def start_sums():
        sums[...] = jnp.zeros_like(sums)

    def add_group(g, _):
        own = pl.ds(pl.multiple_of(g * channels, channels), channels)
        x_own, dy_own = x.at[:, own], dy.at[:, own]
        add = functools.partial(_add, sums.at[g], pairing=pairing, activate=activate)

        def add_step(step, _):
            blocks = [step * STEP + number for number in range(STEP)]
            add(_rows(x_own, origin), _rows(dy_own, first_row(t)), blocks)

        if inside and tiling.tiles == 1:
            lax.fori_loop(inside.start, inside.stop, add_step, None)
        elif inside:
            start = jnp.maximum(inside.start, t * tiling.steps)
            stop = jnp.minimum(inside.stop, (t + 1) * tiling.steps)
            lax.fori_loop(start, stop, add_step, None)

        def add_edge(step):
            blocks = [step * STEP + number for number in range(STEP)]
            add(
                _padded_rows(x_own, origin, pairing.samples),
                _padded_rows(dy_own, first_row(t), pairing.outputs),
                [block for block in blocks if block * SPAN < pairing.samples],
            )

        for step in range(pairing.steps):
            if step not in inside:
                pl.when(t == step // tiling.steps)(functools.partial(add_edge, step))

        @pl.when((n == pl.num_programs(1) - 1) & (t == tiling.tiles - 1))
        def finish():
            _sum_taps(sums.at[g], taps.at[g], pairing)

    lax.fori_loop(0, tiling.groups, add_group, None)


def _rows(ref, origin):
    """Returns a reader of `ref`, which holds an array from row `origin` on: (start, count)."""
    return lambda start, count: ref[pl.ds(start - origin, count)]


def _padded_rows(ref, origin, length: int):
    """Returns `_rows` that gives zeros before and beyond the array's `length` rows."""

    def read(start: int, count: int) -> jax.Array:
        low = min(max(start, 0), start + count)
        high = max(min(start + count, length), low)
        parts = [
            jnp.zeros((low - start, *ref.shape[1:]), ref.dtype),
            ref[pl.ds(low - origin, high - low)] if low < high else None,
            jnp.zeros((start + count - high, *ref.shape[1:]), ref.dtype),
        ]
        return jnp.concatenate([part for part in parts if part is not None and len(part)])

    return read


def _add(sums, x_rows, dy_rows, blocks, *, pairing: Pairing, activate: bool) -> None:
    """Adds the pairs of blocks to `sums [rows * c, SPAN * c]`, 128 columns at a time."""
    seen = [x_rows(block * SPAN, SPAN) for block in blocks]
    channels, lanes = seen[0].shape[1:]
    if activate:
        seen = [swish_by_tanh(b.astype(jnp.float32)).astype(b.dtype) for b in seen]
    for column in range(0, SPAN * channels, LANES):
        stop = column + LANES
        rows = pairing.rows_seeing(column // channels, -(-stop // channels))
        seeing = [dy_rows(pairing.first_row(block) + rows.start, len(rows)) for block in blocks]
        # Blocks side by side: their sum is the product's own, as far as a matrix unit is deep.
        products = _paired(
            jnp.concatenate([outputs.reshape(-1, lanes) for outputs in seeing], axis=1),
            jnp.concatenate([inputs.reshape(-1, lanes)[column:stop] for inputs in seen], axis=1),
        )
        own = slice(rows.start * channels, rows.stop * channels)
        sums[own, column:stop] += products


def _paired(dy: jax.Array, x: jax.Array) -> jax.Array:
    """Returns `dy [a, lanes]` times the transpose of `x [b, lanes]`, summed in float32."""
    return lax.dot_general(
        dy,
        x,
        (((1,), (1,)), ((), ())),
        precision=lax.Precision.HIGHEST if x.dtype == jnp.float32 else None,
        preferred_element_type=jnp.float32,
    )


def _sum_taps(sums, taps, pairing: Pairing) -> None:
    """Sums pairs `[rows * c, SPAN * c]` that are equally far apart to taps `[c, K * c]`."""
    c = taps.shape[0]
    taps[...] = jnp.zeros_like(taps)
    for row in range(pairing.rows):
        first = pairing.tap(row)
        start, stop = max(first, 0), min(first + SPAN, pairing.taps)
        if start < stop:
            pairs = sums[row * c : (row + 1) * c, (start - first) * c : (stop - first) * c]
            taps[:, start * c : stop * c] += pairs
