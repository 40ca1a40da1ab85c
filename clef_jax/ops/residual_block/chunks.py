"""What the kernels of both directions do with one chunk of time of 128 views.

Arrays have time first, channels second and views last. Those of the middle have packs of channels
before time, so that a pack's window is one block of rows. Sums and what is between two products
are float32.

The convolution over time is one chunk late: its windows reach into the next chunk. So it reads a
`recent` array `[packs, before + 2 chunk_samples, wide, 128]`: the last samples of the chunk before
the late one, the late one, and the new one.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from clef_jax.ops.residual_block.geometry import LANES, UNIT, Geometry


def loop(count: int, body: Callable[[jax.Array], None]) -> None:
    """Calls `body` with 0, 1, ... `count - 1`, for what it stores."""

    def step(i, carry):
        body(i)
        return carry

    lax.fori_loop(0, count, step, 0)


def where_valid(values: jax.Array, start: jax.Array | int, end: int, axis: int = 0) -> jax.Array:
    """Returns `values`, of times `start`, `start + 1`, ... along `axis`, and zero from `end` on."""
    time = start + lax.broadcasted_iota(jnp.int32, values.shape, axis)
    return jnp.where(time < end, values, jnp.zeros_like(values))


def swish(h: jax.Array) -> jax.Array:
    """Returns `h * sigmoid(h)` in a form that needs no division."""
    half = 0.5 * h
    return half * jnp.tanh(half) + half


def swish_and_slope(h: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns `swish(h)` and its derivative."""
    sigmoid = 0.5 * jnp.tanh(0.5 * h) + 0.5
    s = h * sigmoid
    return s, sigmoid + s * (1 - sigmoid)


def dot(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns `a @ b` in float32."""
    return jnp.dot(a, b, preferred_element_type=jnp.float32)


def dot_over_views(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns `a @ b.T` in float32: products summed over the views of the lanes."""
    return lax.dot_general(a, b, (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32)


def load_input(x_ref, start: jax.Array | int, count: int, chunk, shape: Geometry) -> jax.Array:
    """Returns `count` samples of a chunk from its `start` on, with zeros after the last of all."""
    x = x_ref[pl.ds(start, count)]
    if shape.samples % shape.chunk_samples:
        x = where_valid(x, chunk * shape.chunk_samples + start, shape.samples)
    return x


def reduce_channels(x_ref, weights, chunk, shape: Geometry, use: Callable) -> None:
    """Calls `use(start, x, h)` for each unit of the chunk `x_ref`.

    Of the samples from `start` on, `x` is the input and `h [packs, time, wide, 128]` the first
    convolution's result.
    """
    count, p = UNIT * shape.stride, shape.together(shape.channels)
    matrix, bias = weights.reduce[...], weights.reduce_bias[...][:, None]

    def unit(u):
        x = load_input(x_ref, u * count, count, chunk, shape)
        a = swish(x.astype(jnp.float32)).astype(x.dtype) if shape.activate else x
        h = [
            dot(matrix, a[t : t + p].reshape(p * shape.channels, LANES)).reshape(
                shape.packs, p, shape.wide, LANES
            )
            for t in range(0, count, p)
        ]
        use(u * count, x, jnp.concatenate(h, axis=1) + bias)

    loop(shape.chunk // UNIT, unit)


def advance(recent, shape: Geometry) -> None:
    """Makes the newest chunk of `recent` the late one."""
    step, size = shape.chunk_samples, UNIT
    rows = shape.before + step

    def move(start, count):
        recent[:, pl.ds(start, count)] = recent[:, pl.ds(start + step, count)]

    loop(rows // size, lambda i: move(i * size, size))
    if rows % size:
        move(rows - rows % size, rows % size)


def keep_recent(recent, start, s: jax.Array, chunk, shape: Geometry) -> None:
    """Stores activations `s` of a new chunk, from its `start` on, with zeros after the last."""
    if shape.samples % shape.chunk_samples:
        s = where_valid(s, chunk * shape.chunk_samples + start, shape.samples, axis=1)
    new = shape.before + shape.chunk_samples
    recent[:, pl.ds(new + start, s.shape[1])] = s.astype(recent.dtype)


def clear_new(recent, shape: Geometry) -> None:
    """Stores zeros for the chunk after the last."""
    new = shape.before + shape.chunk_samples
    recent[:, new:] = jnp.zeros_like(recent[:, new:])


def mix_time(recent, weights, shape: Geometry, unit, use: Callable) -> None:
    """Calls `use(pack, h)` with the convolution over time for a unit of late outputs."""
    for pack in range(shape.packs):
        window = recent[pack, pl.ds(unit * UNIT * shape.stride, shape.window)]
        h = dot(weights.taps[pack], window.reshape(shape.window * shape.wide, LANES))
        use(pack, h.reshape(UNIT, shape.wide, LANES) + weights.taps_bias[pack])


def expand_channels(s_ref, matrix, bias, shape: Geometry, use: Callable) -> None:
    """Calls `use(start, y)` with the last convolution of `s_ref [packs, UNIT, wide, 128]`."""
    p = shape.together(shape.middle)
    for t in range(0, UNIT, p):
        s = s_ref[:, t : t + p].reshape(p * shape.middle, LANES)
        use(t, dot(matrix[...], s).reshape(p, shape.width, LANES) + bias[...])


class SqueezeExcite(NamedTuple):
    """What squeeze-excite makes of a mean: its hidden layer before activation, and the gate."""

    hidden: jax.Array
    gate: jax.Array


def squeeze_excite(mean: jax.Array, weights, dtype) -> SqueezeExcite:
    """Returns the gate `[width, 128]` for a mean over time, multiplying in `dtype`."""
    hidden = dot(weights.squeeze[...], mean.astype(dtype)) + weights.squeeze_bias[...]
    excited = dot(weights.excite[...], swish(hidden).astype(dtype)) + weights.excite_bias[...]
    return SqueezeExcite(hidden, 0.5 * jnp.tanh(0.5 * excited) + 0.5)
