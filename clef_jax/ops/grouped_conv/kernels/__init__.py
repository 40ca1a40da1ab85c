"""Kernels for TPU of the grouped convolution's passes."""

from clef_jax.ops.grouped_conv.kernels.data_passes import forward, input_gradient, suits

__all__ = ["forward", "input_gradient", "suits"]
