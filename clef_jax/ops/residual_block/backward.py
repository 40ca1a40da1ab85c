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
from clef_jax.ops.residual_block.geometry import LANES, UNIT, VMEM_BYTES, Geometry


class Maps(NamedTuple):
    """What the backward pass multiplies by besides `Weights`; in the type of the input.

    Attributes:
        expand: The last convolution, from `out_of_middle`.
        reduce_transposed: The first, transposed, from `out_of_middle`.
        taps_transposed: From `transposed_taps`.
    """

    expand: jax.Array
    reduce_transposed: jax.Array
    taps_transposed: jax.Array


class _Scratch(NamedTuple):
    """What stays in fast memory between chunks.

    Attributes:
        recent: Activations before the convolution over time, as in `chunks`.
        unit: A unit of activations after it.
        early: What the first activation in the middle is given, then its slope.
        late: What the second is given, then the gradient for it; zeros before and after.
        d_early: The gradient for what the first is given, of a unit.
        dy: The result's gradient of the late chunk.
        total: The last convolution's result summed over time, then the gate.
        d_gate: The gate's gradient, then that of the mean over time, per sample.
    """

    recent: jax.Array
    unit: jax.Array
    early: jax.Array
    late: jax.Array
    d_early: jax.Array
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
            unit=middle(UNIT),
            early=middle(shape.chunks * shape.chunk_samples),
            late=middle(shape.earlier + shape.chunks * shape.chunk + shape.later),
            d_early=middle(UNIT * shape.stride),
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
        for array in (own.total, own.d_gate):
            array[...] = jnp.zeros_like(array)
        own.late[:, : shape.earlier] = jnp.zeros_like(own.late[:, : shape.earlier])
        own.late[:, -shape.later :] = jnp.zeros_like(own.late[:, -shape.later :])

    for first in (step, again):

        @pl.when(first == 0)
        def _():
            own.recent[...] = jnp.zeros_like(own.recent)

        @pl.when((first > 0) & (first <= shape.chunks))
        def _():
            chunks.advance(own.recent, shape)

        @pl.when(first == shape.chunks)
        def _():
            chunks.clear_new(own.recent, shape)

    @pl.when(step < shape.chunks)
    def _():
        _first_activation(x_ref, weights, own, step, shape)

    @pl.when((step > 0) & (step < turn))
    def _():
        _gate_gradient(dy_ref, weights, maps, own, step - 1, shape)

    @pl.when(step == shape.chunks)
    def _():
        _squeeze_excite(weights, gradients, own, shape)

    @pl.when((again >= 0) & (again < shape.chunks))
    def _():
        _last_convolution(dy_ref, weights, gradients, own, again, shape)
        _slope_of_first(own, again, shape)

    @pl.when(again > 0)
    def _():
        _first_convolutions(x_ref, maps, gradients, own, dx_ref, again - 1, shape)

    @pl.when((again >= 0) & (again < shape.chunks))
    def _():
        own.dy[...] = dy_ref[...]


def _first_activation(x_ref, weights, own: _Scratch, chunk, shape: Geometry) -> None:
    """Keeps the first convolution's result for a new chunk, and its activation."""

    def keep(start, x, h):
        at = pl.ds(chunk * shape.chunk_samples + start, h.shape[1])
        own.early[:, at] = h.astype(own.early.dtype)
        chunks.keep_recent(own.recent, start, chunks.swish(h), chunk, shape)

    chunks.reduce_channels(x_ref, weights, chunk, shape, keep)


def _load_gradient(dy_ref, start, count: int, chunk, shape: Geometry) -> jax.Array:
    """Returns `count` outputs of a chunk of `dy`, float32, with zeros after the last of all."""
    dy = dy_ref[pl.ds(start, count)].astype(jnp.float32)
    if shape.outputs % shape.chunk:
        dy = chunks.where_valid(dy, chunk * shape.chunk + start, shape.outputs)
    return dy


def _gate_gradient(dy_ref, weights, maps: Maps, own: _Scratch, chunk, shape: Geometry) -> None:
    """Adds a late chunk to the last convolution's sum over time, and to the gate's gradient."""

    def unit(u):
        start = chunk * shape.chunk + u * UNIT

        def keep(pack, h):
            own.late[pack, pl.ds(shape.earlier + start, UNIT)] = h.astype(own.late.dtype)
            own.unit[pack] = chunks.swish(h).astype(own.unit.dtype)

        def add(t, y):
            dy = _load_gradient(dy_ref, u * UNIT + t, len(y), chunk, shape)
            own.d_gate[...] += (dy * y).sum(axis=0)
            if shape.outputs % shape.chunk:
                y = chunks.where_valid(y, start + t, shape.outputs)
            own.total[...] += y.sum(axis=0)

        chunks.mix_time(own.recent, weights, shape, u, keep)
        chunks.expand_channels(own.unit, maps.expand, weights.expand_bias, shape, add)

    chunks.loop(shape.chunk // UNIT, unit)


def _squeeze_excite(weights, gradients, own: _Scratch, shape: Geometry) -> None:
    """Adds the gradients of squeeze-excite; replaces the sums by the gate and the mean's."""
    dtype = own.unit.dtype
    mean = own.total[...] / shape.outputs
    hidden, gate = chunks.squeeze_excite(mean, weights, dtype)
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
    unit_of_middle = (shape.packs, p, shape.wide, LANES)

    def unit(u):
        start = chunk * shape.chunk + u * UNIT
        dy = dy_ref[pl.ds(u * UNIT, UNIT)].astype(jnp.float32) * own.total[...] + own.d_gate[...]
        if shape.outputs % shape.chunk:
            dy = chunks.where_valid(dy, start, shape.outputs)
        gradients.expand_bias[...] += dy.sum(axis=0)
        dy = dy.astype(dtype)
        for t in range(0, UNIT, p):
            at = pl.ds(shape.earlier + start + t, p)
            d = dy[t : t + p].reshape(p * shape.width, LANES)
            s, slope = chunks.swish_and_slope(own.late[:, at].astype(jnp.float32))
            s = s.astype(dtype).reshape(p * shape.middle, LANES)
            gradients.expand[...] += chunks.dot_over_views(s, d)
            dh = chunks.dot(weights.expand[...], d).reshape(unit_of_middle) * slope
            gradients.taps_bias[...] += dh.sum(axis=1)
            own.late[:, at] = dh.astype(dtype)

    chunks.loop(shape.chunk // UNIT, unit)


def _slope_of_first(own: _Scratch, chunk, shape: Geometry) -> None:
    """Replaces a new chunk of what the first activation is given by its slope."""

    def unit(u):
        start = chunk * shape.chunk_samples + u * UNIT
        at = pl.ds(start, UNIT)
        s, slope = chunks.swish_and_slope(own.early[:, at].astype(jnp.float32))
        chunks.keep_recent(own.recent, u * UNIT, s, chunk, shape)
        if shape.samples % shape.chunk_samples:
            slope = chunks.where_valid(slope, start, shape.samples, axis=1)
        own.early[:, at] = slope.astype(own.early.dtype)

    chunks.loop(shape.chunk_samples // UNIT, unit)


def _first_convolutions(
    x_ref, maps: Maps, gradients, own: _Scratch, dx_ref, chunk, shape: Geometry
) -> None:
    """Takes a late chunk through the convolution over time, the first, and the shortcut."""
    count, dtype = UNIT * shape.stride, own.late.dtype

    def unit(u):
        _through_time(maps, gradients, own, u, chunk, shape)
        x = chunks.load_input(x_ref, u * count, count, chunk, shape)
        a, slope = x, None
        if shape.activate:
            a, slope = chunks.swish_and_slope(x.astype(jnp.float32))
            a = a.astype(dtype)
        p = shape.together(shape.channels)
        for t in range(0, count, p):
            d = own.d_early[:, t : t + p].reshape(p * shape.middle, LANES)
            gradients.reduce[...] += chunks.dot_over_views(
                d, a[t : t + p].reshape(p * shape.channels, LANES)
            )
        p = shape.together(shape.middle)
        d = [
            chunks.dot(
                maps.reduce_transposed[...],
                own.d_early[:, t : t + p].reshape(p * shape.middle, LANES),
            ).reshape(p, shape.channels, LANES)
            for t in range(0, count, p)
        ]
        d = jnp.concatenate(d)
        if slope is not None:
            d = d * slope
        d = d + _shortcut_gradient(x, own.dy[pl.ds(u * UNIT, UNIT)], shape)
        dx_ref[pl.ds(u * count, count)] = d.astype(dx_ref.dtype)

    chunks.loop(shape.chunk // UNIT, unit)


def _through_time(maps: Maps, gradients, own: _Scratch, u, chunk, shape: Geometry) -> None:
    """Leaves in `own.d_early` a late unit's gradient for what the first activation is given."""
    count, dtype = UNIT * shape.stride, own.late.dtype
    reach = shape.earlier + UNIT + shape.later
    start = chunk * shape.chunk + u * UNIT
    for pack in range(shape.packs):
        window = own.late[pack, pl.ds(start, reach)].reshape(reach * shape.wide, LANES)
        d = chunks.dot(maps.taps_transposed[pack], window).reshape(count, shape.wide, LANES)
        d = d * own.early[pack, pl.ds(start * shape.stride, count)].astype(jnp.float32)
        gradients.reduce_bias[pack] += d.sum(axis=0)
        own.d_early[pack] = d.astype(dtype)
        gradients.taps[pack] += chunks.dot_over_views(
            own.late[pack, pl.ds(shape.earlier + start, UNIT)].reshape(-1, LANES),
            own.recent[pack, pl.ds(u * count, shape.window)].reshape(-1, LANES),
        )


def _shortcut_gradient(x: jax.Array, dy: jax.Array, shape: Geometry) -> jax.Array:
    """Returns what `dy [UNIT, width, 128]` gives the input `x` along the shortcut, float32."""
    dy = dy[:, shape.offset : shape.offset + shape.channels].astype(jnp.float32)
    if shape.stride == 1:
        return dy
    pairs = x.astype(jnp.float32).reshape(UNIT, 2, shape.channels, LANES)
    first = pairs[:, 0] >= pairs[:, 1]
    both = [jnp.where(first, dy, 0), jnp.where(first, 0, dy)]
    return jnp.stack(both, axis=1).reshape(UNIT * 2, shape.channels, LANES)
