"""Grouped convolutions as Pallas kernels for TPU."""

from clef_jax.ops.grouped_conv.kernels.data_passes import (
    activated_input_gradient,
    forward,
    input_gradient,
    suits,
)
from clef_jax.ops.grouped_conv.kernels.kernel_gradient import kernel_gradient

__all__ = ["activated_input_gradient", "forward", "input_gradient", "kernel_gradient", "suits"]
