"""The encoder's residual block as one operation, computed in a TPU core's fast memory."""

from clef_jax.ops.residual_block.arrangement import Parameters
from clef_jax.ops.residual_block.block import residual_block, suits
from clef_jax.ops.residual_block.geometry import Geometry

__all__ = ["Geometry", "Parameters", "residual_block", "suits"]
