"""The backward pass's first sweep: the forward pass again, for the gradient of the gate."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from clef_jax.ops.activation import swish_and_slope_by_tanh, swish_by_tanh
from clef_jax.ops.residual_block import chunks
from clef_jax.ops.residual_block.arrangement import Maps, Weights
from clef_jax.ops.residual_block.geometry import SPAN, Geometry


class Scratch(NamedTuple):
    """References to what stays in fast memory between chunks.

    Attributes:
        recent: Activations before the convolution over time, as in `chunks`.
        early: What the first activation in the middle is given, then its slope.
        late: What the second is given, then the gradient for it; zeros before and after.
        dy: The result's gradient of the late chunk.
        total: The last convolution's result summed over time, then the gate.
        d_gate: The gate's gradient, then that of the mean over time, per sample.
    """

    recent: Any
    early: Any
    late: Any
    dy: Any
    total: Any
    d_gate: Any


def first_activation(x_ref, weights: Weights, own: Scratch, chunk, shape: Geometry) -> None:
    """Keeps the first convolution's result for a new chunk, and its activation."""

    def keep(i, x, h):
        count = h.shape[1]
        own.early[:, pl.ds(chunk * shape.chunk_samples + i * count, count)] = h.astype(x.dtype)
        chunks.keep_recent(own.recent, i, swish_by_tanh(h), shape)

    chunks.reduce_channels(x_ref, weights, shape, keep)


def gate_gradient(
    dy_ref, weights: Weights, maps: Maps, own: Scratch, chunk, shape: Geometry
) -> None:
    """Adds a late chunk to the last convolution's sum over time, and to the gate's gradient."""
    dtype = own.late.dtype

    def span(i):
        start = chunk * shape.chunk + i * SPAN
        s = []
        for pack in range(shape.packs):
            h = chunks.mix_time(own.recent, weights, shape, i, pack)
            own.late[pack, pl.ds(shape.earlier + start, SPAN)] = h.astype(dtype)
            s.append(swish_by_tanh(h).astype(dtype))
        bias = weights.expand_bias[...]
        y = chunks.expand_channels(jnp.stack(s), maps.expand[...], bias, shape)
        dy = dy_ref[pl.ds(i * SPAN, SPAN)].astype(jnp.float32)
        own.d_gate[...] += (dy * y).sum(axis=0)
        own.total[...] += chunks.until(y, start, shape.outputs, shape.chunk).sum(axis=0)

    chunks.loop(shape.chunk // SPAN, span)


def squeeze_excite(weights: Weights, gradients: Weights, own: Scratch, shape: Geometry) -> None:
    """Adds the gradients of squeeze-excite; replaces the sums by the gate and the mean's."""
    dtype = own.late.dtype
    mean = own.total[...] / shape.outputs
    hidden, gate = chunks.squeeze_excite(mean, weights)
    s, slope = swish_and_slope_by_tanh(hidden)
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
