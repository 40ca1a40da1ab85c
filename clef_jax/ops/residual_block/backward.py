"""The block's backward pass as one kernel, which keeps nothing of the forward pass but its input.

Two sweeps over time. The first computes the forward pass again up to its last convolution, for the
gradient of squeeze-excite's gate, which depends on all of time. It keeps what the activations in
the middle were given; the second replaces these by their slopes and gradients.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from clef_jax.ops.residual_block import chunks
from clef_jax.ops.residual_block.arrangement import Weights
from clef_jax.ops.residual_block.forward import like, resident
from clef_jax.ops.residual_block.geometry import LANES, SPAN, UNIT, VMEM_BYTES, Geometry


class Maps(NamedTuple):
    """What the backward pass multiplies by besides `Weights`; in the type of the input.

    Attributes:
        expand: The last convolution, from `out_of_middle`.
        reduce_transposed: The first, transposed, from `out_of_middle`.
        taps_transposed: From `toeplitz_transposed`.
    """

    expand: jax.Array
    reduce_transposed: jax.Array
    taps_transposed: jax.Array


class _Scratch(NamedTuple):
    """What stays in fast memory between chunks.

    Attributes:
        recent: Activations before the convolution over time, as in `chunks`.
        early: What the first activation in the middle is given, then its slope.
        late: What the second is given, then the gradient for it; zeros before and after.
        dy: The result's gradient of the late chunk.
        total: The last convolution's result summed over time, then the gate.
        d_gate: The gate's gradient, then that of the mean over time, per sample.
    """

    recent: jax.Array
    early: jax.Array
    late: jax.Array
    dy: jax.Array
    total: jax.Array
    d_gate: jax.Array


def backward(
    x: jax.Array, dy: jax.Array, weights: Weights, maps: Maps, shape: Geometry, *, interpret: bool
) -> tuple[jax.Array, Weights]:
    """Returns the gradients for `x` and, float32, for `weights`.

    Arguments are `forward`'s, and the result's gradient `dy [outputs, width, N]`.
    """
    last = shape.chunks - 1
    middle = functools.partial(_middle, shape, x.dtype)
    total = pltpu.VMEM((shape.width, LANES), jnp.float32)
    dx, *gradients = pl.pallas_call(
        functools.partial(_kernel, shape=shape),
        grid=(shape.views // LANES, 2 * (shape.chunks + 1)),
        in_specs=[
            pl.BlockSpec(
                (shape.chunk_samples, shape.channels, LANES),
                lambda n, s: (
                    jnp.where(
                        s <= shape.chunks,
                        jnp.minimum(s, last),
                        jnp.maximum(s - shape.chunks - 2, 0),
                    ),
                    0,
                    n,
                ),
            ),
            pl.BlockSpec(
                (shape.chunk, shape.width, LANES),
                lambda n, s: (
                    jnp.where(
                        s <= shape.chunks,
                        jnp.maximum(s - 1, 0),
                        jnp.minimum(s - shape.chunks - 1, last),
                    ),
                    0,
                    n,
                ),
            ),
            *(resident(w) for w in (*weights, *maps)),
        ],
        out_specs=[
            pl.BlockSpec(
                (shape.chunk_samples, shape.channels, LANES),
                lambda n, s: (jnp.maximum(s - shape.chunks - 2, 0), 0, n),
            ),
            *(resident(w) for w in weights),
        ],
        out_shape=[
            like(x.shape, x.dtype, x),
            *(like(w.shape, jnp.float32, x) for w in weights),
        ],
        scratch_shapes=_Scratch(
            recent=middle(shape.before + 2 * shape.chunk_samples),
            early=middle(shape.chunks * shape.chunk_samples),
            late=middle(shape.earlier + shape.chunks * shape.chunk + shape.later),
            dy=pltpu.VMEM((shape.chunk, shape.width, LANES), x.dtype),
            total=total,
            d_gate=total,
        ),
        interpret=interpret,
        compiler_params=pltpu.CompilerParams(vmem_limit_bytes=VMEM_BYTES),
        name="residual_block_backward",
    )(x, dy, *weights, *maps)
    return dx, Weights(*gradients)


def _middle(shape: Geometry, dtype, time: int):
    return pltpu.VMEM((shape.packs, time, shape.wide, LANES), dtype)


def _kernel(x_ref, dy_ref, *refs, shape: Geometry) -> None:
    refs = iter(refs)
    weights, maps = (kind(*(next(refs) for _ in kind._fields)) for kind in (Weights, Maps))
    dx_ref = next(refs)
    gradients, own = (kind(*(next(refs) for _ in kind._fields)) for kind in (Weights, _Scratch))
    step, turn = pl.program_id(1), shape.chunks + 1
    again = step - turn

    @pl.when((pl.program_id(0) == 0) & (step == 0))
    def _():
        for gradient in gradients:
            gradient[...] = jnp.zeros_like(gradient)

    @pl.when(step == 0)
    def _():
        for array in (own.total, own.d_gate, own.late):
            array[...] = jnp.zeros_like(array)

    for chunk in (step, again):
        _move_on(own.recent, chunk, shape)

    @pl.when(step < shape.chunks)
    def _():
        chunks.clear_rest(x_ref, step, shape.samples)
        _first_activation(x_ref, weights, own, step, shape)
        chunks.clear_recent(own.recent, step, shape)

    @pl.when((step > 0) & (step < turn))
    def _():
        chunks.clear_rest(dy_ref, step - 1, shape.outputs)
        _gate_gradient(dy_ref, weights, maps, own, step - 1, shape)

    @pl.when(step == shape.chunks)
    def _():
        _squeeze_excite(weights, gradients, own, shape)

    @pl.when((again >= 0) & (again < shape.chunks))
    def _():
        chunks.clear_rest(dy_ref, again, shape.outputs)
        _last_convolution(dy_ref, weights, gradients, own, again, shape)
        _slope_of_first(own, again, shape)
        chunks.clear_recent(own.recent, again, shape)

    @pl.when(again > 0)
    def _():
        chunks.clear_rest(x_ref, again - 1, shape.samples)
        _first_convolutions(x_ref, maps, gradients, own, dx_ref, again - 1, shape)

    @pl.when((again >= 0) & (again < shape.chunks))
    def _():
        own.dy[...] = dy_ref[...]


def _move_on(recent, chunk, shape: Geometry) -> None:
    """Makes room for a new chunk of a sweep, unless it has passed or is yet to come."""

    @pl.when(chunk == 0)
    def _():
        recent[...] = jnp.zeros_like(recent)

    @pl.when((chunk > 0) & (chunk <= shape.chunks))
    def _():
        chunks.advance(recent, shape)

    @pl.when(chunk == shape.chunks)
    def _():
        chunks.clear_recent(recent, chunk, shape)


def _first_activation(x_ref, weights, own: _Scratch, chunk, shape: Geometry) -> None:
    """Keeps the first convolution's result for a new chunk, and its activation."""

    def keep(i, x, h):
        count = h.shape[1]
        own.early[:, pl.ds(chunk * shape.chunk_samples + i * count, count)] = h.astype(x.dtype)
        chunks.keep_recent(own.recent, i, chunks.swish(h), shape)

    chunks.reduce_channels(x_ref, weights, shape, keep)


def _gate_gradient(dy_ref, weights, maps: Maps, own: _Scratch, chunk, shape: Geometry) -> None:
    """Adds a late chunk to the last convolution's sum over time, and to the gate's gradient."""
    dtype = own.late.dtype

    def span(i):
        start = chunk * shape.chunk + i * SPAN
        s = []
        for pack in range(shape.packs):
            h = chunks.mix_time(own.recent, weights, shape, i, pack)
            own.late[pack, pl.ds(shape.earlier + start, SPAN)] = h.astype(dtype)
            s.append(chunks.swish(h).astype(dtype))
        bias = weights.expand_bias[...]
        y = chunks.expand_channels(jnp.stack(s), maps.expand[...], bias, shape)
        dy = dy_ref[pl.ds(i * SPAN, SPAN)].astype(jnp.float32)
        own.d_gate[...] += (dy * y).sum(axis=0)
        own.total[...] += chunks.until(y, start, shape.outputs, shape.chunk).sum(axis=0)

    chunks.loop(shape.chunk // SPAN, span)


def _squeeze_excite(weights, gradients, own: _Scratch, shape: Geometry) -> None:
    """Adds the gradients of squeeze-excite; replaces the sums by the gate and the mean's."""
    dtype = own.late.dtype
    mean = own.total[...] / shape.outputs
    hidden, gate = chunks.squeeze_excite(mean, weights)
    s, slope = chunks.swish_and_slope(hidden)
    d_excited = own.d_gate[...] * gate * (1 - gate)
    gradients.excite_bias[...] += d_excited
    gradients.excite[...] += chunks.dot_over_views(d_excited.astype(dtype), s.astype(dtype))
    d_hidden = _dot_transposed(weights.excite[...], d_excited.astype(dtype)) * slope
    gradients.squeeze_bias[...] += d_hidden
    gradients.squeeze[...] += chunks.dot_over_views(d_hidden.astype(dtype), mean.astype(dtype))
    own.total[...] = gate
    d_mean = _dot_transposed(weights.squeeze[...], d_hidden.astype(dtype))
    own.d_gate[...] = d_mean / shape.outputs


def _dot_transposed(a: jax.Array, b: jax.Array) -> jax.Array:
    return lax.dot_general(a, b, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32)


def _last_convolution(dy_ref, weights, gradients, own: _Scratch, chunk, shape: Geometry) -> None:
    """Takes a chunk of `dy` through the gate, the last convolution and the second activation."""
    p, dtype = shape.together(shape.width), own.late.dtype

    def span(i):
        start = chunk * shape.chunk + i * SPAN
        dy = dy_ref[pl.ds(i * SPAN, SPAN)].astype(jnp.float32)
        dy = dy * own.total[...][None] + own.d_gate[...][None]
        dy = chunks.until(dy, start, shape.outputs, shape.chunk)
        gradients.expand_bias[...] += dy.sum(axis=0)
        dy = [chunks.rows(dy.astype(dtype), t, p) for t in range(0, SPAN, p)]
        dh = [chunks.dot(weights.expand[...], d) for d in dy]
        dh = [d.reshape(shape.packs, p, shape.wide, LANES) for d in dh]
        at = pl.ds(shape.earlier + start, SPAN)
        s, slope = chunks.swish_and_slope(own.late[:, at].astype(jnp.float32))
        dh = jnp.concatenate(dh, axis=1) * slope
        own.late[:, at] = dh.astype(dtype)
        gradients.taps_bias[...] += dh.sum(axis=1)
        s = s.astype(dtype)
        gradients.expand[...] += sum(
            chunks.dot_over_views(chunks.rows_of_middle(s, j * p, p), d) for j, d in enumerate(dy)
        )

    chunks.loop(shape.chunk // SPAN, span)


def _slope_of_first(own: _Scratch, chunk, shape: Geometry) -> None:
    """Replaces a new chunk of what the first activation is given by its slope."""
    rest = shape.samples % shape.chunk_samples

    def span(i):
        at = pl.ds(chunk * shape.chunk_samples + i * SPAN, SPAN)
        s, slope = chunks.swish_and_slope(own.early[:, at].astype(jnp.float32))
        chunks.keep_recent(own.recent, i, s, shape)
        own.early[:, at] = slope.astype(own.early.dtype)

    chunks.loop(shape.chunk_samples // SPAN, span)
    if rest:

        @pl.when(chunk == shape.chunks - 1)
        def _():
            own.early[:, shape.samples :] = jnp.zeros_like(own.early[:, shape.samples :])


def _first_convolutions(
    x_ref, maps: Maps, gradients, own: _Scratch, dx_ref, chunk, shape: Geometry
) -> None:
    """Takes a late chunk through the convolution over time, the first, and the shortcut."""
    count, dtype = SPAN * shape.stride, own.late.dtype

    def span(i):
        x = x_ref[pl.ds(i * count, count)]
        a, slope = x, None
        if shape.activate:
            a, slope = chunks.swish_and_slope(x.astype(jnp.float32))
            a = a.astype(dtype)
        dh = [_through_time(maps, gradients, own, i, pack, chunk, shape) for pack in range(shape.packs)]
        dh = jnp.stack(dh)
        p = shape.together(shape.channels)
        gradients.reduce[...] += sum(
            chunks.dot_over_views(chunks.rows_of_middle(dh, t, p), chunks.rows(a, t, p))
            for t in range(0, count, p)
        )
        p = shape.together(shape.middle)
        dx = [
            chunks.dot(maps.reduce_transposed[...], chunks.rows_of_middle(dh, t, p))
            for t in range(0, count, p)
        ]
        dx = jnp.concatenate(dx).reshape(x.shape)
        if slope is not None:
            dx = dx * slope
        dx = dx + _shortcut_gradient(x, own.dy[pl.ds(i * SPAN, SPAN)], shape)
        dx_ref[pl.ds(i * count, count)] = dx.astype(dx_ref.dtype)

    chunks.loop(shape.chunk // SPAN, span)


def _through_time(
    maps: Maps, gradients, own: _Scratch, i, pack: int, chunk, shape: Geometry
) -> jax.Array:
    """Returns a pack's gradient for what the first activation is given, of a late span."""
    gradient, dh = 0, []
    start = chunk * shape.chunk + i * SPAN
    for t in range(0, SPAN, UNIT):
        reached = own.late[pack, pl.ds(start + t, len(shape.reached))].reshape(-1, LANES)
        product = chunks.dot(maps.taps_transposed[pack], reached)
        dh.append(product.reshape(UNIT * shape.stride, shape.wide, LANES))
        unit = own.late[pack, pl.ds(shape.earlier + start + t, UNIT)].reshape(-1, LANES)
        window = own.recent[pack, pl.ds((i * SPAN + t) * shape.stride, shape.window)]
        gradient += chunks.dot_over_views(unit, window.reshape(-1, LANES))
    gradients.taps[pack] += gradient
    slope = own.early[pack, pl.ds(start * shape.stride, SPAN * shape.stride)]
    dh = jnp.concatenate(dh) * slope.astype(jnp.float32)
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
