"""Recordings to embeddings: the encoder's interface for arrays and files, and the table of many."""

from clef_jax.embedding.embeddings import Embeddings, QualityWarning
from clef_jax.embedding.encoder import Encoder
from clef_jax.embedding.fingerprint import encoder_meta, fingerprint, fingerprints_agree
from clef_jax.embedding.loading import load_encoder

__all__ = [
    "Embeddings",
    "Encoder",
    "QualityWarning",
    "encoder_meta",
    "fingerprint",
    "fingerprints_agree",
    "load_encoder",
]
