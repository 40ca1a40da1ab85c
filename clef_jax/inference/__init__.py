"""Recordings to embeddings: the encoder's interface for arrays and files, and the table of many."""

from clef_jax.inference.embeddings import Embeddings, QualityWarning
from clef_jax.inference.encoder import Encoder
from clef_jax.inference.fingerprint import encoder_meta, fingerprint, fingerprints_agree
from clef_jax.inference.loading import load_encoder

__all__ = [
    "Embeddings",
    "Encoder",
    "QualityWarning",
    "encoder_meta",
    "fingerprint",
    "fingerprints_agree",
    "load_encoder",
]
