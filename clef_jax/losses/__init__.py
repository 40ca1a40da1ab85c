"""Pretraining objectives: pure functions of embeddings and risks."""

from clef_jax.losses.clef import PRESETS, clef_loss
from clef_jax.losses.simclr import simclr_loss

__all__ = ["PRESETS", "clef_loss", "simclr_loss"]
