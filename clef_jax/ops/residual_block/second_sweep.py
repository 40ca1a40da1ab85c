"""The backward pass's second sweep: gradients of the input and of all weights but the gate's."""

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from clef_jax.ops.activation import swish_and_slope_by_tanh
from clef_jax.ops.residual_block import chunks
from clef_jax.ops.residual_block.arrangement import Maps, Weights
from clef_jax.ops.residual_block.first_sweep import Scratch
from clef_jax.ops.residual_block.geometry import LANES, SPAN, UNIT, Geometry


def last_convolution(
    dy_ref, weights: Weights, gradients: Weights, own: Scratch, chunk, shape: Geometry
) -> None:
    """Takes a chunk of `dy` through the gate, the last convolution and the second activation."""
    p, dtype = shape.together(shape.width), own.late.dtype

    def span(i):
        start = chunk * shape.chunk + i * SPAN
        dy = dy_ref[pl.ds(i * SPAN, SPAN)].astype(jnp.float32)
        dy = dy * own.total[...][None] + own.d_gate[...][None]
        dy = chunks.until(dy, start, shape.outputs, shape.chunk)
        gradients.expand_bias[...] += dy.sum(axis=0)
        rows = [chunks.rows(dy.astype(dtype), t, p) for t in range(0, SPAN, p)]
        parts = [
            chunks.dot(weights.expand[...], r).reshape(shape.packs, p, shape.wide, LANES)
            for r in rows
        ]
        at = pl.ds(shape.earlier + start, SPAN)
        s, slope = swish_and_slope_by_tanh(own.late[:, at].astype(jnp.float32))
        dh = jnp.concatenate(parts, axis=1) * slope
        own.late[:, at] = dh.astype(dtype)
        gradients.taps_bias[...] += dh.sum(axis=1)
        s = s.astype(dtype)
        gradients.expand[...] += sum(
            chunks.dot_over_views(chunks.rows_of_middle(s, j * p, p), r) for j, r in enumerate(rows)
        )

    chunks.loop(shape.chunk // SPAN, span)


def slope_of_first(own: Scratch, chunk, shape: Geometry) -> None:
    """Replaces a new chunk of what the first activation is given by its slope."""
    rest = shape.samples % shape.chunk_samples

    def span(i):
        at = pl.ds(chunk * shape.chunk_samples + i * SPAN, SPAN)
        s, slope = swish_and_slope_by_tanh(own.early[:, at].astype(jnp.float32))
        chunks.keep_recent(own.recent, i, s, shape)
        own.early[:, at] = slope.astype(own.early.dtype)

    chunks.loop(shape.chunk_samples // SPAN, span)
    if rest:

        @pl.when(chunk == shape.chunks - 1)
        def _():
            own.early[:, shape.samples :] = jnp.zeros_like(own.early[:, shape.samples :])


def first_convolutions(
    x_ref, maps: Maps, gradients: Weights, own: Scratch, dx_ref, chunk, shape: Geometry
) -> None:
    """Takes a late chunk through the convolution over time, the first, and the shortcut."""
    count, dtype = SPAN * shape.stride, own.late.dtype

    def span(i):
        x = x_ref[pl.ds(i * count, count)]
        a, slope = x, None
        if shape.activate:
            a, slope = swish_and_slope_by_tanh(x.astype(jnp.float32))
            a = a.astype(dtype)
        packs = range(shape.packs)
        dh = jnp.stack(
            [_through_time(maps, gradients, own, i, pack, chunk, shape) for pack in packs]
        )
        p = shape.together(shape.channels)
        gradients.reduce[...] += chunks.add_up(
            chunks.dot_over_views(chunks.rows_of_middle(dh, t, p), chunks.rows(a, t, p))
            for t in range(0, count, p)
        )
        p = shape.together(shape.middle)
        parts = [
            chunks.dot(maps.reduce_transposed[...], chunks.rows_of_middle(dh, t, p))
            for t in range(0, count, p)
        ]
        dx = jnp.concatenate(parts).reshape(x.shape)
        if slope is not None:
            dx = dx * slope
        dx = dx + _shortcut_gradient(x, own.dy[pl.ds(i * SPAN, SPAN)], shape)
        dx_ref[pl.ds(i * count, count)] = dx.astype(dx_ref.dtype)

    chunks.loop(shape.chunk // SPAN, span)


def _through_time(
    maps: Maps, gradients: Weights, own: Scratch, i, pack: int, chunk, shape: Geometry
) -> jax.Array:
    """Returns a pack's gradient for what the first activation is given, of a late span."""
    products, parts = [], []
    start = chunk * shape.chunk + i * SPAN
    for t in range(0, SPAN, UNIT):
        reached = own.late[pack, pl.ds(start + t, len(shape.reached))].reshape(-1, LANES)
        product = chunks.dot(maps.taps_transposed[pack], reached)
        parts.append(product.reshape(UNIT * shape.stride, shape.wide, LANES))
        unit = own.late[pack, pl.ds(shape.earlier + start + t, UNIT)].reshape(-1, LANES)
        window = own.recent[pack, pl.ds((i * SPAN + t) * shape.stride, shape.window)]
        products.append(chunks.dot_over_views(unit, window.reshape(-1, LANES)))
    gradients.taps[pack] += sum(products)
    slope = own.early[pack, pl.ds(start * shape.stride, SPAN * shape.stride)]
    dh = jnp.concatenate(parts) * slope.astype(jnp.float32)
    gradients.reduce_bias[pack] += dh.sum(axis=0)
    return dh.astype(slope.dtype)


def _shortcut_gradient(x: jax.Array, dy: jax.Array, shape: Geometry) -> jax.Array:
    """Returns what `dy [SPAN, width, 128]` gives the input `x` along the shortcut, float32."""
    dy = dy[:, shape.offset : shape.offset + shape.channels].astype(jnp.float32)
    if shape.stride == 1:
        return dy
    pairs = x.astype(jnp.float32).reshape(SPAN, 2, shape.channels, LANES)
    first = pairs[:, 0] >= pairs[:, 1]
    both = [jnp.where(first, dy, 0), jnp.where(first, 0, dy)]
    return jnp.stack(both, axis=1).reshape(x.shape)
