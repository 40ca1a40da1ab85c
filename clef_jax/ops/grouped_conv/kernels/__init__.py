"""The three passes as kernels of our own, for the shapes that they suit."""

import jax
from jax.typing import DTypeLike


def suits(
    x_shape: tuple[int, ...],
    dtype: DTypeLike,
    kernel_shape: tuple[int, ...],
    stride: int,
    groups: int,
) -> bool:
    """Returns whether the kernels take an input `[N, T, C_in]` and taps `[K, C_in / g, C_out]`."""
    del x_shape, dtype, kernel_shape, stride, groups
    return False


def forward(x: jax.Array, kernel: jax.Array, stride: int, groups: int) -> jax.Array:
    """Returns the SAME convolution; arguments and result as in `passes.forward`."""
    raise NotImplementedError


def input_gradient(
    x: jax.Array, kernel: jax.Array, dy: jax.Array, stride: int, groups: int
) -> jax.Array:
    """Returns the gradient for `x`; arguments and result as in `passes.input_gradient`."""
    raise NotImplementedError


def kernel_gradient(
    x: jax.Array, kernel: jax.Array, dy: jax.Array, stride: int, groups: int
) -> jax.Array:
    """Returns the gradient for `kernel`; arguments and result as in `passes.kernel_gradient`."""
    raise NotImplementedError
