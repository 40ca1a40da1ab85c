"""Grouped 1-D convolution: the one place that decides how convolutions are computed."""

from clef_jax.ops.grouped_conv.activated import activated_conv
from clef_jax.ops.grouped_conv.conv import grouped_conv

__all__ = ["activated_conv", "grouped_conv"]
