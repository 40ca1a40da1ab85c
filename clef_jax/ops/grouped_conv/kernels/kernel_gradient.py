"""The gradient of a grouped convolution's kernel, as a Pallas kernel for TPU.

It is a sum over views n and time t: `dW[k] = sum of x[n, t * stride + k - padding] dy[n, t]`. XLA
keeps views in lanes, so both factors lie as a matrix unit wants them. One product, summed over the
lanes, pairs the channels of 8 inputs in a row with those of all outputs that see any of them
(`pairing`); its sums over blocks of time and of views stay in VMEM, and become taps at the end.
With 16 taps and stride 1, 16 in 23 of the pairs are of use. Groups of fewer than 16 channels share
a product, of which only a part is of use: still in less time than reading the arrays takes.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from clef_jax.ops.grouped_conv.folding import Geometry
from clef_jax.ops.grouped_conv.kernels.pairing import SPAN, STEP, Pairing
from clef_jax.ops.varying import shaped_alike

# Views, and columns, of one product.
_LANES = 128
# Least channels of a product: sixteen bfloat16 fill a register's sublanes.
_CHANNELS = 16
# Of x at a time in VMEM: enough to outlast the start of a step, soon enough there for the first.
_TILE_BYTES = 3 << 19
# A quarter of a v5e's, half of a v5p's: what is left keeps arrays of other operations.
_VMEM_BYTES = 32 << 20


def kernel_gradient(
    x: jax.Array,
    kernel: jax.Array,
    dy: jax.Array,
    stride: int,
    groups: int,
    *,
    interpret: bool = False,
) -> jax.Array:
    """Returns the gradient for `kernel`, of its shape and type, summed in float32.

    Args:
        x: Input `[N, T, C]` in bfloat16 or float32, C a multiple of 16.
        kernel: Taps `[K, C / groups, C]`; no value of it is used.
        dy: Cotangent `[N, ceil(T / stride), C]` of the SAME convolution, of the type of `x`.
        stride: Step between outputs, in samples: 1, 2, 4 or 8.
        groups: Number of channel groups, each of a divisor or a multiple of 16 channels.
        interpret: Whether to run without a TPU, slowly.
    """
    taps, width, _ = kernel.shape
    padding = Geometry(x.shape[1], taps, stride, groups, 1).padding[0]
    pairing = Pairing(x.shape[1], taps, stride, padding)
    shared = _CHANNELS // math.gcd(width, _CHANNELS)
    channels = shared * width
    w = _correlate(_views_last(x), _views_last(dy), channels, pairing, interpret)
    w = w.reshape(-1, taps * channels).T.reshape(taps, shared, width, -1)
    if shared > 1:
        # Of groups that shared a product, each is wanted with itself only.
        group = jnp.arange(w.shape[-1]) // width % shared
        own = group[None] == jnp.arange(shared)[:, None]
        w = jnp.where(own[None, :, None], w, 0)
    return w.sum(axis=1).astype(kernel.dtype)


def _views_last(x: jax.Array) -> jax.Array:
    """Returns `x [N, T, C]` as `[T, C, N]`, as it lies on TPU, N filled up to whole products."""
    views = x.shape[0]
    if views > _LANES:
        x = jnp.pad(x, ((0, -views % _LANES), (0, 0), (0, 0)))
    return x.transpose(1, 2, 0)


def _correlate(
    x: jax.Array, dy: jax.Array, channels: int, pairing: Pairing, interpret: bool
) -> jax.Array:
    """Returns sums `[g, channels of dy, taps * channels of x]` over x `[T, C, N]`, dy alike."""
    samples, width, views = x.shape
    groups, lanes, taps = width // channels, min(views, _LANES), pairing.taps
    # A tile is several groups of short recordings, or several steps of long ones.
    size = samples * channels * lanes * x.dtype.itemsize
    at_once = max(
        n for n in range(1, groups + 1) if groups % n == 0 and n * size <= max(_TILE_BYTES, size)
    )
    steps = -(-pairing.steps // -(-size // _TILE_BYTES))
    tiles = -(-pairing.steps // steps)
    inputs = min(samples, steps * STEP * SPAN)
    rows = pairing.first_row(steps * STEP - 1) + pairing.rows - pairing.first_row(0)
    rows = min(pairing.outputs, rows)

    def first_row(tile):
        if tiles == 1:
            return 0
        return jnp.clip(pairing.first_row(tile * steps * STEP), 0, pairing.outputs - rows)

    return pl.pallas_call(
        functools.partial(_kernel, pairing=pairing, tiles=tiles, steps=steps, first_row=first_row),
        grid=(groups // at_once, views // lanes, tiles),
        in_specs=[
            pl.BlockSpec((inputs, at_once * channels, lanes), lambda g, n, t: (t, g, n)),
            # By elements, as rows of neighbouring tiles overlap.
            pl.BlockSpec(
                (pl.Element(rows), pl.Element(at_once * channels), pl.Element(lanes)),
                lambda g, n, t: (first_row(t), g * at_once * channels, n * lanes),
            ),
        ],
        out_specs=pl.BlockSpec((at_once, channels, taps * channels), lambda g, n, t: (g, 0, 0)),
        out_shape=shaped_alike(x, (groups, channels, taps * channels), jnp.float32),
        scratch_shapes=[
            pltpu.VMEM((at_once, pairing.rows * channels, SPAN * channels), jnp.float32)
        ],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "arbitrary", "arbitrary"),
            vmem_limit_bytes=_VMEM_BYTES,
        ),
        cost_estimate=pl.CostEstimate(
            flops=2 * views * pairing.outputs * taps * width * channels,
            bytes_accessed=x.nbytes + dy.nbytes,
            transcendentals=0,
        ),
        interpret=interpret,
    )(x, dy)


def _kernel(x, dy, taps, sums, *, pairing: Pairing, tiles: int, steps: int, first_row) -> None:
    """Adds the pairs of a tile to `sums`; the last tile's turn makes them the taps."""
    n, t = pl.program_id(1), pl.program_id(2)
    at_once, channels, _ = taps.shape
    origins = (0, 0) if tiles == 1 else (t * steps * STEP * SPAN, first_row(t))
    inside = pairing.inside()

    @pl.when((n == 0) & (t == 0))
    def _():
        sums[...] = jnp.zeros_like(sums)

    def add_group(g, _):
        own = pl.ds(pl.multiple_of(g * channels, channels), channels)
        add = functools.partial(
            _add, x.at[:, own], dy.at[:, own], sums.at[g], origins=origins, pairing=pairing
        )
        start, stop = inside.start, inside.stop
        if tiles > 1:
            start, stop = jnp.maximum(start, t * steps), jnp.minimum(stop, (t + 1) * steps)
        if inside:
            lax.fori_loop(start, stop, lambda step, _: add(step), None)
        for step in set(range(pairing.steps)) - set(inside):
            pl.when(t == step // steps)(functools.partial(add, step))

        @pl.when((n == pl.num_programs(1) - 1) & (t == tiles - 1))
        def _():
            _sum_taps(sums.at[g], taps.at[g], pairing)

        return 0

    lax.fori_loop(0, at_once, add_group, 0)


def _add(x, dy, sums, step, *, origins, pairing: Pairing) -> None:
    """Adds a step's pairs, one product for 128 columns of a block.

    Args:
        x: Inputs of one group from `origins[0]` on, `[T, c, lanes]`.
        dy: Cotangents from `origins[1]` on.
        sums: Pairs `[rows * c, SPAN * c]` in float32.
        step: Number of the step. If it is no array, the step may reach into padding.
        origins: As above.
        pairing: The pairs.
    """
    _, channels, lanes = x.shape
    precision = lax.Precision.HIGHEST if x.dtype == jnp.float32 else None
    blocks = [step * STEP + number for number in range(STEP)]
    if isinstance(step, int):
        blocks = [block for block in blocks if block * SPAN < pairing.samples]
    for column in range(0, SPAN * channels, _LANES):
        stop = column + _LANES
        rows = pairing.rows_seeing(column // channels, -(-stop // channels))
        products = []
        for block in blocks:
            first = pairing.first_row(block) + rows.start
            a = _rows(dy, first, len(rows), origins[1], pairing.outputs)
            b = _rows(x, block * SPAN, SPAN, origins[0], pairing.samples)
            product = lax.dot_general(
                a.reshape(-1, lanes),
                b.reshape(-1, lanes)[column:stop],
                (((1,), (1,)), ((), ())),
                precision=precision,
                preferred_element_type=jnp.float32,
            )
            products.append(product)
        sums[rows.start * channels : rows.stop * channels, column:stop] += sum(
            products[1:], products[0]
        )


def _rows(ref, start, count: int, origin, length: int) -> jax.Array:
    """Returns rows of an array of some length, of which `ref` is what follows row `origin`.

    If `start` is no array, rows before and beyond the array are zeros.
    """
    if isinstance(start, jax.Array):
        return ref[pl.ds(start - origin, count)]
    low = min(max(start, 0), start + count)
    high = max(min(start + count, length), low)
    parts = [jnp.zeros((n, *ref.shape[1:]), ref.dtype) for n in (low - start, start + count - high)]
    if low < high:
        parts.insert(1, ref[pl.ds(low - origin, high - low)])
    return jnp.concatenate([part for part in parts if len(part)])


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
