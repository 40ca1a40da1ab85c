"""Grouped 1-D convolution: the one place that decides how convolutions are computed."""

import functools

import jax

from clef_jax.ops.grouped_conv.choice import Layer, Passes, choose
from clef_jax.ops.grouped_conv.passes import forward, input_gradient, kernel_gradient
from clef_jax.ops.pointwise import pointwise
from clef_jax.ops.varying import varying_alike


def grouped_conv(x: jax.Array, kernel: jax.Array, *, stride: int = 1, groups: int = 1) -> jax.Array:
    """Convolves along time with XLA's SAME padding, each group of channels by itself.

    Computes in the type of `x`; sums and the kernel's gradient are float32 or wider wherever the
    kernel is. Differentiable in reverse mode only.

    Args:
        x: Input `[N, T, C_in]`.
        kernel: Taps `[K, C_in // groups, C_out]`, of the type of `x` or a wider one.
        stride: Step between outputs, in samples.
        groups: Number of channel groups; divides C_in and C_out.

    Returns:
        Output `[N, ceil(T / stride), C_out]` in the type of `x`.
    """
    if kernel.shape[0] == stride == groups == 1:
        return pointwise(x, kernel[0])
    x, kernel = varying_alike(x, kernel)
    return _grouped_conv(x, kernel, stride, groups)


def _choose(x: jax.Array, kernel: jax.Array, stride: int, groups: int) -> Passes:
    layer = Layer(kernel.shape[1], groups, stride, kernel.shape[0])
    outputs = x.shape[0] * -(-x.shape[1] // stride)
    return choose(jax.default_backend(), x.dtype.name, layer, outputs)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _grouped_conv(x: jax.Array, kernel: jax.Array, stride: int, groups: int) -> jax.Array:
    algorithm = _choose(x, kernel, stride, groups).forward
    return forward(x, kernel.astype(x.dtype), stride, groups, algorithm)


def _forward(x, kernel, stride, groups):
    return _grouped_conv(x, kernel, stride, groups), (x, kernel)


def _backward(stride, groups, saved, dy):
    x, kernel = saved
    passes = _choose(x, kernel, stride, groups)
    narrow = kernel.astype(x.dtype)
    dx = input_gradient(x, narrow, dy, stride, groups, passes.input_gradient)
    dkernel = kernel_gradient(x, kernel, dy, stride, groups, passes.kernel_gradient)
    return dx, dkernel


_grouped_conv.defvjp(_forward, _backward)
