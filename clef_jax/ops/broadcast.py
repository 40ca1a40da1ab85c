"""Channel-wise sums and products whose gradients over time and batch are float32 sums.

The automatic gradient of a broadcast sums in the type of the activations; in bfloat16, with its
eight bits, thousands of summands then lose all but the largest.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from clef_jax.ops.varying import varying_alike


def add_bias(y: jax.Array, bias: jax.Array) -> jax.Array:
    """Returns `y [..., C]` plus `bias [C]`, in the type of `y`.

    The gradient for `bias` is summed and returned in the bias's own type, which may be wider.
    """
    return _add_bias(*varying_alike(y, bias))


@jax.custom_vjp
def _add_bias(y: jax.Array, bias: jax.Array) -> jax.Array:
    return y + bias.astype(y.dtype).reshape((1,) * (y.ndim - 1) + bias.shape)


def _add_bias_forward(y, bias):
    return _add_bias(y, bias), bias


def _add_bias_backward(bias, dy):
    wide = np.promote_types(bias.dtype, dy.dtype)
    if dy.ndim < 3:
        return dy, dy.sum(axis=range(dy.ndim - 1), dtype=wide).astype(bias.dtype)

    def by_view(dy):
        # A sum over time alone, kept apart by the barrier, is done in the pass that makes `dy`,
        # beside other sums over time: those of a gate's gradient.
        over_time = dy.sum(axis=range(1, dy.ndim - 1), dtype=wide)
        return lax.optimization_barrier(over_time).sum(axis=0)

    def at_once(dy):
        return dy.sum(axis=range(dy.ndim - 1), dtype=wide)

    total = lax.platform_dependent(dy, cpu=at_once, default=by_view)
    return dy, total.astype(bias.dtype)


_add_bias.defvjp(_add_bias_forward, _add_bias_backward)


@jax.custom_vjp
def scale_channels(y: jax.Array, gate: jax.Array) -> jax.Array:
    """Returns `y [N, T, C]` times `gate [N, C]`, both of one type."""
    return y * gate[:, None, :]


def _scale_channels_forward(y, gate):
    return scale_channels(y, gate), (y, gate)


def _scale_channels_backward(saved, dy):
    y, gate = saved
    wide = np.promote_types(y.dtype, jnp.float32)
    dgate = (dy.astype(wide) * y.astype(wide)).sum(axis=1)
    return dy * gate[:, None, :], dgate.astype(gate.dtype)


scale_channels.defvjp(_scale_channels_forward, _scale_channels_backward)
