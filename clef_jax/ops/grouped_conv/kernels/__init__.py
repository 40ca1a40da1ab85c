"""Grouped convolutions as Pallas kernels for TPU."""

from clef_jax.ops.grouped_conv.kernels.data_passes import (
    activated_forward,
    activated_input_gradient,
    forward,
    input_gradient,
    suits,
)
from clef_jax.ops.grouped_conv.kernels.kernel_gradient import (
    activated_kernel_gradient,
    kernel_gradient,
)

__all__ = [
    "activated_forward",
    "activated_input_gradient",
    "activated_kernel_gradient",
    "forward",
    "input_gradient",
    "kernel_gradient",
    "suits",
]
