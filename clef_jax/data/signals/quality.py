"""What is wrong with a lead or a window, if anything (numpy float64)."""

import dataclasses
import enum

import numpy as np
from numpy.typing import ArrayLike

from clef_jax.data.signals.complexes import find_complexes


class QualityFlag(enum.StrEnum):
    """What a window's signal is."""

    OK = "ok"
    PADDED = "padded"
    SPIKES = "spikes"
    NOISE = "noise"
    CLIPPED = "clipped"
    SATURATED = "saturated"
    FLAT = "flat"
    NON_FINITE = "non-finite"


# Flags of windows that hold too little signal to embed.
UNUSABLE = (QualityFlag.NON_FINITE, QualityFlag.FLAT)

# Noise: complexes that explain less of each other than this, where nothing lies between them, ...
_MIN_REPEATABILITY = 0.5
# ... and more where the places between them are steep too, ...
_REPEATABILITY_FOR_BACKGROUND = 1.5
# ... but never more than this: broad complexes of a fast heart leave no rest between them.
_ENOUGH_REPEATABILITY = 0.95
# Waves of one shape, such as mains hum, repeat, and have no complexes: 0.71 for a sine.
_MAX_BACKGROUND = 0.7


@dataclasses.dataclass(frozen=True)
class QualityLimits:
    """When a lead counts as unusable. Amplitudes in mV, times in seconds, shares in [0, 1].

    Attributes:
        nonfinite_share: Missing samples. Up to here (half a second of ten, no more than one beat)
            a straight line through the gap keeps the rest usable.
        flat_range_mv: Peak-to-peak below this is no ECG: four steps of the coarsest recorders in
            use (5 µV), well under the 0.1 mV of the smallest QRS.
        flat_run_s: A constant stretch this long is a lost electrode: between beats muscle noise and
            baseline move every recorder's last bit several times in half a second.
        flat_share: Share of samples in such stretches.
        clip_run_s: A plateau at the largest or smallest value this long is a limiter, not a
            peak: a QRS stays within one step of its top for a few milliseconds.
        clip_share: Share of samples on such plateaus: one clipped beat in ten seconds is tolerated.
        saturation_mv: Distance from the lead's median that no heart reaches (the largest QRS are
            about 5 mV); an amplifier at its rail does.
        saturation_share: Share of samples beyond it.
    """

    nonfinite_share: float = 0.05
    flat_range_mv: float = 0.02
    flat_run_s: float = 0.5
    flat_share: float = 0.25
    clip_run_s: float = 0.02
    clip_share: float = 0.02
    saturation_mv: float = 15.0
    saturation_share: float = 0.01


QUALITY = QualityLimits()


@dataclasses.dataclass(frozen=True)
class Fault:
    """Why a lead is unusable.

    Attributes:
        flag: In a word.
        reason: In full, beginning with that word.
    """

    flag: QualityFlag
    reason: str


def _samples_in_runs(hit: np.ndarray, shortest: int) -> int:
    """Counts the True samples of `hit` that lie in runs of at least `shortest`."""
    if np.count_nonzero(hit) < shortest:
        return 0
    edges = np.flatnonzero(np.diff(np.concatenate(([False], hit, [False])).astype(np.int8)))
    lengths = edges[1::2] - edges[::2]
    return int(lengths[lengths >= shortest].sum())


def _lead_fault(x: np.ndarray, fs: float, limits: QualityLimits) -> Fault | None:
    finite = np.isfinite(x)
    missing = 1.0 - finite.mean()
    if missing > limits.nonfinite_share:
        return _fault(QualityFlag.NON_FINITE, f" in {missing:.0%} of samples")
    if missing:
        x = x[finite]
    low, high = x.min(), x.max()
    if high - low < limits.flat_range_mv:
        return _fault(QualityFlag.FLAT, f": {1000 * (high - low):.0f} µV peak to peak")
    # A run of k equal samples shows as k - 1 zero differences.
    still = _samples_in_runs(np.diff(x) == 0, max(1, round(limits.flat_run_s * fs) - 1)) / x.size
    if still > limits.flat_share:
        return _fault(QualityFlag.FLAT, f" in {still:.0%} of samples")
    if high - low > limits.saturation_mv:
        beyond = np.mean(np.abs(x - np.median(x)) > limits.saturation_mv)
        if beyond > limits.saturation_share:
            text = f": beyond {limits.saturation_mv:g} mV in {beyond:.0%} of samples"
            return _fault(QualityFlag.SATURATED, text)
    plateau = max(3, round(limits.clip_run_s * fs))
    clipped = (_samples_in_runs(x == low, plateau) + _samples_in_runs(x == high, plateau)) / x.size
    if clipped > limits.clip_share:
        return _fault(QualityFlag.CLIPPED, f" in {clipped:.0%} of samples")
    return None


def _fault(flag: QualityFlag, more: str) -> Fault:
    return Fault(flag, flag + more)


def lead_faults(
    signal_mv: ArrayLike, fs: float, limits: QualityLimits = QUALITY
) -> list[Fault | None]:
    """Judges each lead of a recording before filtering.

    Args:
        signal_mv: [leads, time], mV; NaN marks missing samples.
        fs: Sampling rate, Hz.
        limits: The thresholds.

    Returns:
        For each lead None or why it is unusable: non-finite, flat, saturated or clipped.
    """
    return [_lead_fault(x, fs, limits) for x in np.asarray(signal_mv, np.float64)]


def quality_flag(native_mv: np.ndarray, fs: float) -> QualityFlag:
    """Returns whether one lead is ok, non-finite, flat, saturated or clipped before filtering.

    Args:
        native_mv: [time], mV at the recording's own rate; NaN marks missing samples.
        fs: That rate, Hz.
    """
    fault = lead_faults(native_mv[None], fs)[0]
    return QualityFlag.OK if fault is None else fault.flag


def is_noise(x: np.ndarray, fs: float) -> bool:
    """Tells whether a band-passed window looks like noise rather than an ECG.

    An ECG has complexes that repeat (`find_complexes`), or that stand out of what lies between
    them. How well this tells them apart, by kind of heart and of noise, is in docs/quality.md.

    Args:
        x: [time], band-passed; amplitude does not matter.
        fs: Sampling rate, Hz.

    Returns:
        False where fewer than three complexes leave it unknown, as in windows of a second or two.
    """
    found = find_complexes(x, fs)
    if np.isnan(found.repeatability):
        return False
    needed = _MIN_REPEATABILITY + _REPEATABILITY_FOR_BACKGROUND * found.background
    repeats = found.repeatability >= min(needed, _ENOUGH_REPEATABILITY)
    return bool(not repeats or found.background > _MAX_BACKGROUND)


def filtered_fault(x: np.ndarray, limits: QualityLimits = QUALITY) -> QualityFlag | None:
    """Returns non-finite or flat where a band-passed lead [time], mV, holds no ECG, else None.

    What a lead held may lie outside the band: a drift, an offset.
    """
    if not np.isfinite(x).all():
        return QualityFlag.NON_FINITE
    return QualityFlag.FLAT if np.ptp(x) < limits.flat_range_mv else None
