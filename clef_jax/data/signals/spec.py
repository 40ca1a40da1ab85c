"""The preprocessing in words that are stored, printed and compared."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from clef_jax.data.signals.quality import QUALITY


@dataclasses.dataclass(frozen=True)
class PreprocessingSpec:
    """The preprocessing that shards and checkpoints are made with and compared by.

    `recipe` writes it out in Python.

    Attributes:
        version: Raised whenever the numbers that come of it change.
        fs: Sampling rate after resampling, Hz.
        samples: Length of a window, samples at `fs`.
        max_denominator: The rate is changed by up/down, the fraction nearest to `fs` / native rate
            whose denominator is no larger.
        window: How many samples, at the native rate, make a window. No other sample counts.
        spike_mv: Samples further than this from the window's median count as missing, with their
            flanks (`data.signals.spikes`),
        spike_share: where they are no more than this share of the window.
        gaps: How missing samples are filled: by straight lines, at the ends by the nearest sample.
        resampling: How the rate is changed: `scipy.signal.resample_poly`.
        kaiser_beta: Shape of the Kaiser window that its low-pass filter is designed with.
        padtype: What it assumes beyond the ends: the line through the first and last sample.
        band_hz: Corner frequencies of the band-pass, Hz.
        order: Order of the Butterworth band-pass.
        filtering: How it is applied: (b, a) forwards and backwards, `scipy.signal.filtfilt`.
        zscore_epsilon: Added to the standard deviation.
        padding: What follows, after z-scoring, a recording shorter than a window.
    """

    version: int = 2
    fs: float = 500.0
    samples: int = 5000
    max_denominator: int = 10_000
    window: str = "(samples - 1) * down // up + 1"
    spike_mv: float = QUALITY.saturation_mv
    spike_share: float = QUALITY.saturation_share
    gaps: str = "linear"
    resampling: str = "polyphase"
    kaiser_beta: float = 5.0
    padtype: str = "line"
    band_hz: tuple[float, float] = (0.67, 40.0)
    order: int = 5
    filtering: str = "filtfilt"
    zscore_epsilon: float = 1e-8
    padding: str = "zeros"

    @property
    def seconds(self) -> float:
        """Length of a window, seconds."""
        return self.samples / self.fs

    def to_dict(self) -> dict:
        """Returns the spec as a JSON-ready dictionary."""
        return dataclasses.asdict(self) | {"band_hz": list(self.band_hz)}


PREPROCESSING = PreprocessingSpec()

# It resampled a second more than the window and bridged no spikes. At 500 Hz nothing is resampled,
# and without spikes and a gap across the window's end the numbers are those of version 2.
_VERSION_1 = {
    "version": 1,
    "fs": 500.0,
    "samples": 5000,
    "band_hz": [0.67, 40.0],
    "order": 5,
    "gaps": "linear",
    "resampling": "polyphase",
}


def spec_conflict(stored: Mapping[str, Any] | None) -> str:
    """Says in what a stored spec contradicts this release's.

    Args:
        stored: What `PreprocessingSpec.to_dict` returned in this or an earlier release.

    Returns:
        "" where encoders and shards made with it are used as they are: it is this release's, or
        version 1. Otherwise every differing field, as found and as expected.
    """
    stored = dict(stored or {})
    expected = _VERSION_1 if stored.get("version") == 1 else PREPROCESSING.to_dict()
    differing = sorted(k for k in expected | stored if stored.get(k) != expected.get(k))
    return ", ".join(f"{k} {stored.get(k)} instead of {expected.get(k)}" for k in differing)


def recipe(spec: PreprocessingSpec = PREPROCESSING) -> str:
    """Returns a Python function that makes the encoder's input with numpy and scipy alone."""
    return f'''\
from fractions import Fraction

import numpy as np
from scipy import signal


def encoder_input(x, fs):
    """Takes one lead in mV at fs Hz, from the window's first sample on; NaN where missing."""
    ratio = (Fraction({spec.fs:g}) / Fraction(fs)).limit_denominator({spec.max_denominator})
    up, down = ratio.numerator, ratio.denominator
    x = x[: {spec.samples - 1} * down // up + 1]
    t, known = np.arange(len(x)), np.isfinite(x)
    x = np.interp(t, t[known], x[known])
    kaiser = ("kaiser", {spec.kaiser_beta})
    x = signal.resample_poly(x, up, down, window=kaiser, padtype="{spec.padtype}")[:{spec.samples}]
    b, a = signal.butter({spec.order}, {list(spec.band_hz)}, "bandpass", fs={spec.fs:g})
    x = signal.filtfilt(b, a, x)
    z = (x - x.mean()) / (x.std() + {spec.zscore_epsilon})
    return np.pad(z, (0, {spec.samples} - len(z)))
'''
