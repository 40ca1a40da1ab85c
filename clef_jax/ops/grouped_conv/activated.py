"""A grouped convolution with swish before it and a bias after it, which TPUs compute in one go."""

import functools

import jax
from jax import lax

from clef_jax.ops.activation import swish
from clef_jax.ops.broadcast import add_bias
from clef_jax.ops.grouped_conv import kernels
from clef_jax.ops.grouped_conv.conv import chosen, grouped_conv
from clef_jax.ops.varying import varying_alike


def activated_conv(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, *, stride: int = 1, groups: int = 1
) -> jax.Array:
    """Returns `grouped_conv(swish(x), kernel)` plus the bias.

    A program for TPU reads and writes one array for it instead of three, and its input gradient
    three instead of five; any other computes the three functions one after the other.

    Args:
        x: Input before the activation, `[N, T, C_in]`.
        kernel: Taps `[K, C_in // groups, C_out]`, of the type of `x` or a wider one.
        bias: `[C_out]`, of the type of `kernel`.
        stride: Step between outputs, in samples.
        groups: Number of channel groups; divides C_in and C_out.

    Returns:
        Output `[N, ceil(T / stride), C_out]` in the type of `x`.
    """
    if {algorithm.form for algorithm in chosen(x, kernel, stride, groups)["tpu"]} != {"kernel"}:
        return add_bias(grouped_conv(swish(x), kernel, stride=stride, groups=groups), bias)
    return _activated_conv(*varying_alike(x, kernel, bias), stride, groups)


def _in_turn(
    a: jax.Array, kernel: jax.Array, bias: jax.Array, stride: int, groups: int
) -> jax.Array:
    return add_bias(grouped_conv(a, kernel, stride=stride, groups=groups), bias)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _activated_conv(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, stride: int, groups: int
) -> jax.Array:
    return _forward(x, kernel, bias, stride, groups)[0]


def _forward(x, kernel, bias, stride, groups):
    a = swish(x)

    def at_once(x, a, kernel, bias):
        narrow = kernel.astype(x.dtype)
        return kernels.forward(x, narrow, stride, groups, bias=bias, activate=True)

    def in_turn(x, a, kernel, bias):
        return _in_turn(a, kernel, bias, stride, groups)

    y = lax.platform_dependent(x, a, kernel, bias, tpu=at_once, default=in_turn)
    # What a platform's backward pass makes no use of, its compiler does not keep.
    return y, (x, a, kernel, bias)


def _backward(stride, groups, saved, dy):
    def at_once(x, a, kernel, bias, dy):
        narrow = kernel.astype(x.dtype)
        dx, dbias = kernels.activated_input_gradient(x, narrow, dy, stride, groups)
        dkernel = kernels.kernel_gradient(x, kernel, dy, stride, groups, activate=True)
        return dx, dkernel, dbias.astype(bias.dtype)

    def in_turn(x, a, kernel, bias, dy):
        _, pull = jax.vjp(lambda a, k, b: _in_turn(a, k, b, stride, groups), a, kernel, bias)
        da, dkernel, dbias = pull(dy)
        _, pull = jax.vjp(swish, x)
        return *pull(da), dkernel, dbias

    return lax.platform_dependent(*saved, dy, tpu=at_once, default=in_turn)


_activated_conv.defvjp(_forward, _backward)
