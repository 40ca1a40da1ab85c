"""A quality flag for each window: what is wrong with it, if anything (numpy float64)."""

import numpy as np

from clef_jax.data import signals

OK, NOISE, PADDED = "ok", "noise", "padded"
# Flags of windows that hold too little signal to embed.
UNUSABLE = ("non-finite", "flat")

# Without QRS complexes the slope has no spikes: its kurtosis is 3 for Gaussian noise and above 9 in
# 99 % of ECGs.
_MIN_SLOPE_KURTOSIS = 8.0
# Share of the power from 0 to 40 Hz below 1 Hz: under 0.31 in 99 % of ECGs after the band-pass.
_MAX_WANDER_SHARE = 0.35
# Share of the power from 5 to 40 Hz below 15 Hz, where QRS complexes lie: above 0.35 in 99 %
# of ECGs, 0.1 to 0.3 in muscle noise.
_MIN_QRS_SHARE = 0.25


def is_noise(x: np.ndarray, fs: float) -> bool:
    """Tells whether a band-passed window looks like noise rather than an ECG.

    The limits come from leads of PTB-XL, LUDB, the 2021 Challenge, CPSC 2021 and MIT-BIH on one
    side and the noise recordings of NSTDB on the other. Electrode motion, which mimics QRS
    complexes, is the kind most often missed.

    Args:
        x: [time], band-passed.
        fs: Sampling rate, Hz.
    """
    slope = np.diff(x)
    slope = slope - slope.mean()
    variance = np.mean(slope**2)
    if variance == 0:
        return False
    if np.mean(slope**4) / variance**2 < _MIN_SLOPE_KURTOSIS:
        return True
    power = np.abs(np.fft.rfft(x - x.mean())) ** 2

    def band(low, high):
        bins = (np.array([low, high]) * len(x) / fs).astype(int)
        return power[slice(*bins)].sum()

    wander = band(0, 1) / band(0, 40)
    qrs = band(5, 15) / band(5, 40)
    return bool(wander > _MAX_WANDER_SHARE or qrs < _MIN_QRS_SHARE)


def quality_flag(native_mv: np.ndarray, fs: float) -> str:
    """Returns "ok", "non-finite", "flat", "saturated" or "clipped" of one lead before filtering.

    Args:
        native_mv: [time], mV at the recording's own rate; NaN marks missing samples.
        fs: That rate, Hz.
    """
    fault = signals.lead_faults(native_mv[None], fs)[0]
    return OK if fault is None else fault.replace(":", " ").split()[0]
