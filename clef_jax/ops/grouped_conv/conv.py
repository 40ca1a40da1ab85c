"""Grouped 1-D convolution, each pass by the algorithm of the platform that it is lowered for."""

import functools
from collections.abc import Callable

import jax
from jax import lax

from clef_jax.ops.grouped_conv import kernels, passes
from clef_jax.ops.grouped_conv.choice import PLATFORMS, choose
from clef_jax.ops.grouped_conv.layers import Layer
from clef_jax.ops.grouped_conv.passes import Algorithm, Passes
from clef_jax.ops.grouped_conv.rules import PLAIN
from clef_jax.ops.pointwise import pointwise
from clef_jax.ops.varying import varying_alike
from clef_jax.ops.vmem import device_kind

# Their libraries sum in float32 and return the type of the factors. Asked for a wider one, XLA
# writes wider copies of both arrays first, which takes longer than the convolution.
_ROUNDING = ("cuda", "rocm")


def grouped_conv(x: jax.Array, kernel: jax.Array, *, stride: int = 1, groups: int = 1) -> jax.Array:
    """Convolves along time with XLA's SAME padding, each group of channels by itself.

    Computes in the type of `x`; sums and the kernel's gradient are float32 or wider wherever the
    kernel is, but on GPUs that gradient is rounded once, at its end, to the type of `x`.
    Differentiable in reverse mode only. The algorithms are those of the platform that the program
    is lowered for, whatever this process runs on.

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


def chosen(
    x: jax.Array | jax.ShapeDtypeStruct,
    kernel: jax.Array | jax.ShapeDtypeStruct,
    stride: int,
    groups: int,
) -> dict[str, Passes]:
    """Returns the algorithms of `grouped_conv` of these arrays by platform, see `choice.choose`."""
    layer = Layer(kernel.shape[1], groups, stride, kernel.shape[0])
    outputs = x.shape[0] * -(-x.shape[1] // stride)
    kind = device_kind()
    return {
        platform: choose(
            platform,
            x.dtype.name,
            layer,
            outputs,
            device_kind=kind,
            kernels=platform == "tpu"
            and kernels.suits(x.shape, x.dtype, kernel.shape, stride, groups, kind),
        )
        for platform in PLATFORMS
    }


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _grouped_conv(x: jax.Array, kernel: jax.Array, stride: int, groups: int) -> jax.Array:
    algorithms = chosen(x, kernel, stride, groups)
    return _compute("forward", algorithms, stride, groups, x, kernel.astype(x.dtype))


def _forward(x, kernel, stride, groups):
    return _grouped_conv(x, kernel, stride, groups), (x, kernel)


def _backward(stride, groups, saved, dy):
    x, kernel = saved
    algorithms = chosen(x, kernel, stride, groups)
    narrow = kernel.astype(x.dtype)
    dx = _compute("input_gradient", algorithms, stride, groups, x, narrow, dy)
    dkernel = _compute("kernel_gradient", algorithms, stride, groups, x, kernel, dy)
    return dx, dkernel


_grouped_conv.defvjp(_forward, _backward)


def _compute(
    name: str, algorithms: dict[str, Passes], stride: int, groups: int, *arrays: jax.Array
) -> jax.Array:
    """Returns the pass called `name` of these arrays, by the algorithm of the lowering platform."""
    narrows = name == "kernel_gradient" and arrays[0].dtype != arrays[1].dtype
    functions = {
        p: _pass(name, stride, groups, getattr(algorithms[p], name), narrows and p in _ROUNDING)
        for p in PLATFORMS
    }
    plain = _pass(name, stride, groups, getattr(PLAIN, name), False)
    if len(set(functions.values())) == 1:
        return functions["cpu"](*arrays)
    others = {platform: f for platform, f in functions.items() if f is not plain}
    return lax.platform_dependent(*arrays, default=plain, **others)


@functools.cache
def _pass(
    name: str, stride: int, groups: int, algorithm: Algorithm, rounded: bool
) -> Callable[..., jax.Array]:
    """Returns one function for equal arguments: equal layers and branches are traced once."""

    def compute(*arrays: jax.Array) -> jax.Array:
        return getattr(passes, name)(*arrays, stride, groups, algorithm)

    def compute_rounded(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> jax.Array:
        return compute(x, kernel.astype(x.dtype), dy).astype(kernel.dtype)

    return compute_rounded if rounded else compute
