"""What an encoder makes of one recording: a row for each window and lead, with its quality."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from clef_jax.data.signals.quality import UNUSABLE, QualityFlag


class QualityWarning(UserWarning):
    """Some windows are no clean ECG; the message counts them by flag."""


@dataclasses.dataclass(frozen=True)
class Embeddings:
    """Embeddings of the windows of one recording, a row for each (window, lead).

    Attributes:
        embedding: float32 [rows, D]; NaN where the window held no usable signal.
        lead: Lead of each row.
        start_s: float64 [rows], where each window begins, seconds.
        quality: What the signal of each row was; the embeddings of what was flat or non-finite are
            NaN.
        fs: The recording's own rate, Hz.
        layers: Stage name -> float32 [rows, T_s, width] of the layers asked for.

    Example:
        >>> from clef_jax import load_encoder
        >>> found = load_encoder("weights/clef_small").embed_recording("ecg", "II")
        >>> found.lead, found.start_s.tolist(), found.fs
        (['II', 'II'], [0.0, 10.0], 250.0)
        >>> found.embedding.shape, found.mean().shape
        ((2, 256), (1, 256))
    """

    embedding: np.ndarray
    lead: list[str]
    start_s: np.ndarray
    quality: list[QualityFlag]
    fs: float
    layers: dict[str, np.ndarray]

    def mean(self) -> np.ndarray:
        """Returns the record-level mean over usable windows, float32 [leads, D], NaN if none is."""
        leads = list(dict.fromkeys(self.lead))
        out = np.full((len(leads), self.embedding.shape[1]), np.nan, np.float32)
        for i, lead in enumerate(leads):
            rows = [
                row
                for row, (name, flag) in enumerate(zip(self.lead, self.quality, strict=True))
                if name == lead and flag not in UNUSABLE
            ]
            if rows:
                out[i] = self.embedding[rows].mean(axis=0)
        return out


def without_unusable(embedding: np.ndarray, flags: Sequence[QualityFlag]) -> np.ndarray:
    """Returns embeddings [rows, D] with NaN where a window held no usable signal."""
    unusable = np.isin(flags, UNUSABLE)
    return np.where(unusable[:, None], np.float32(np.nan), embedding)
