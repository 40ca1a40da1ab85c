"""What pretraining minimises: pure functions of embeddings, and of what is known of subjects."""

from clef_jax.losses.clef import PRESETS, clef_loss
from clef_jax.losses.info_nce import info_nce
from clef_jax.losses.simclr import simclr_loss

__all__ = ["PRESETS", "clef_loss", "info_nce", "simclr_loss"]
