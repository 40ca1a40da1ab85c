"""What the kernels of both directions do with one chunk of time of 128 views.

Arrays have time first, channels second and views last. Those of the middle have packs of channels
before time, so that a pack's window is one block of rows. Sums and what is between two products
are float32.

The convolution over time is one chunk late: its windows reach into the next chunk. So it reads a
`recent` array `[packs, before + 2 chunk_samples, wide, 128]`: the last samples of the chunk before
the late one, the late one, and the new one.
"""

import functools
import operator
from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from clef_jax.ops.activation import swish_by_tanh
from clef_jax.ops.residual_block.arrangement import Weights
from clef_jax.ops.residual_block.geometry import LANES, SPAN, UNIT, Geometry


def loop(count: int, body: Callable[[jax.Array], None]) -> None:
    """Calls `body` with 0, 1, ... `count - 1`, for what it stores."""

    def step(i, carry):
        body(i)
        return carry

    lax.fori_loop(0, count, step, 0)


def dot(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns `a @ b` in float32."""
    return jnp.dot(a, b, preferred_element_type=jnp.float32)


def dot_over_views(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns `a @ b.T` in float32: products summed over the views of the lanes."""
    return lax.dot_general(a, b, (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32)


def add_up(products: Iterable[jax.Array]) -> jax.Array:
    """Returns the sum of products that are not stored one by one."""
    return functools.reduce(operator.add, products)


def until(values: jax.Array, start: jax.Array, end: int, size: int) -> jax.Array:
    """Returns `values` of the times from `start` on, and zeros from the time `end` on.

    Where chunks of `size` fill time without a rest, there are none such.
    """
    if end % size == 0:
        return values
    time = start + lax.broadcasted_iota(jnp.int32, values.shape, 0)
    return jnp.where(time < end, values, jnp.zeros_like(values))


def clear_rest(ref, chunk: jax.Array, end: int) -> None:
    """Stores zeros in the chunk `ref` from the time `end` on: whatever is there was not loaded."""
    size = len(ref)
    if end % size:

        @pl.when(chunk == end // size)
        def _():
            ref[end % size :] = jnp.zeros_like(ref[end % size :])


def reduce_channels(x_ref, weights: Weights, shape: Geometry, use: Callable) -> None:
    """Calls `use(i, x, h)` for the i-th span of the chunk `x_ref`.

    `x` is the span's input and `h [packs, time, wide, 128]` the first convolution's result.
    """
    count, p = SPAN * shape.stride, shape.together(shape.channels)

    def span(i):
        x = x_ref[pl.ds(i * count, count)]
        a = swish_by_tanh(x.astype(jnp.float32)).astype(x.dtype) if shape.activate else x
        h = [dot(weights.reduce[...], rows(a, t, p)) for t in range(0, count, p)]
        h = [product.reshape(shape.packs, p, shape.wide, LANES) for product in h]
        use(i, x, jnp.concatenate(h, axis=1) + weights.reduce_bias[...][:, None])

    loop(shape.chunk // SPAN, span)


def rows(values: jax.Array, start: int, count: int) -> jax.Array:
    """Returns `count` samples of `[time, channels, 128]` as one matrix."""
    return values[start : start + count].reshape(-1, LANES)


def rows_of_middle(values: jax.Array, start: int, count: int) -> jax.Array:
    """Returns `count` samples of `[packs, time, wide, 128]` as one matrix."""
    return values[:, start : start + count].reshape(-1, LANES)


def advance(recent, chunk: jax.Array, shape: Geometry) -> None:
    """Makes the newest chunk of `recent` the late one, before the given one is stored."""
    step = shape.chunk_samples

    def move(start, count):
        recent[:, pl.ds(start, count)] = recent[:, pl.ds(start + step, count)]

    @pl.when(chunk == 0)
    def _():
        # All that is read of the time before the first sample.
        recent[:, step : step + shape.before] = jnp.zeros_like(
            recent[:, step : step + shape.before]
        )

    @pl.when(chunk > 0)
    def _():
        loop(step // UNIT, lambda i: move(i * UNIT, UNIT))
        if shape.before:
            move(step, shape.before)


def keep_recent(recent, i: jax.Array, s: jax.Array, shape: Geometry) -> None:
    """Stores activations `s` of the i-th span of a new chunk."""
    start = shape.before + shape.chunk_samples + i * s.shape[1]
    recent[:, pl.ds(start, s.shape[1])] = s.astype(recent.dtype)


def clear_recent(recent, chunk: jax.Array, shape: Geometry) -> None:
    """Stores zeros from the last sample on, when the new chunk is the last or the one after."""
    new = shape.before + shape.chunk_samples
    rest = shape.samples % shape.chunk_samples

    @pl.when(chunk == shape.chunks)
    def _():
        recent[:, new:] = jnp.zeros_like(recent[:, new:])

    if rest:

        @pl.when(chunk == shape.chunks - 1)
        def _():
            recent[:, new + rest :] = jnp.zeros_like(recent[:, new + rest :])


def mix_time(recent, weights: Weights, shape: Geometry, i: jax.Array, pack: int) -> jax.Array:
    """Returns the convolution over time `[SPAN, wide, 128]` of the i-th span of late outputs."""
    h = []
    for start in range(0, SPAN, UNIT):
        window = recent[pack, pl.ds((i * SPAN + start) * shape.stride, shape.window)]
        product = dot(weights.taps[pack], window.reshape(-1, LANES))
        h.append(product.reshape(UNIT, shape.wide, LANES))
    return jnp.concatenate(h) + weights.taps_bias[pack][None]


def expand_channels(s: jax.Array, matrix: jax.Array, bias: jax.Array, shape: Geometry) -> jax.Array:
    """Returns the last convolution `[SPAN, width, 128]` of `s [packs, SPAN, wide, 128]`."""
    p = shape.together(shape.middle)
    y = [dot(matrix, rows_of_middle(s, t, p)) for t in range(0, SPAN, p)]
    return jnp.concatenate(y).reshape(SPAN, shape.width, LANES) + bias[None]


class SqueezeExcite(NamedTuple):
    """What squeeze-excite makes of a mean: its hidden layer before activation, and the gate."""

    hidden: jax.Array
    gate: jax.Array


def squeeze_excite(mean: jax.Array, weights: Weights) -> SqueezeExcite:
    """Returns the gate `[width, 128]` for a mean over time, multiplying in the weights' type."""
    squeeze, excite = weights.squeeze[...], weights.excite[...]
    hidden = dot(squeeze, mean.astype(squeeze.dtype)) + weights.squeeze_bias[...]
    excited = dot(excite, swish_by_tanh(hidden).astype(excite.dtype)) + weights.excite_bias[...]
    return SqueezeExcite(hidden, 0.5 * jnp.tanh(0.5 * excited) + 0.5)
