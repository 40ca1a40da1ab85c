"""Signals: names of leads, preprocessing, quality."""

from clef_jax.data.signals.preprocessing import bandpass, fill_gaps, resample, zscore

__all__ = ["bandpass", "fill_gaps", "resample", "zscore"]
