"""Do the steep places of a window repeat and stand out, as heartbeats do? (numpy float64)."""

import dataclasses

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import signal as dsp

# The band ends at 40 Hz, and mains that got through the filter must not alias to 0 Hz.
_FS = 125.0
# A difference over 32 ms passes 5 to 25 Hz, where QRS complexes lie, narrow or broad.
_SLOPE_S = 0.032
_ENVELOPE_S = 0.06
# 240 beats per minute; a faster heart's complexes are taken together.
_APART_S = 0.25
# Steep places of less than this share of the typical complex are left aside: P and T waves, noise.
_LOWEST = 0.4
_BEFORE_S, _AFTER_S = 0.16, 0.24
_ALIGN_S = 0.048
# With so many complexes, one that resembles only one other may do so by chance.
_MANY = 8


@dataclasses.dataclass(frozen=True)
class Complexes:
    """What the complexes of a window are like.

    Attributes:
        count: Complexes found that lie wholly within the window.
        repeatability: Of the typical complex, the share of its slope's energy that another explains
            as it is, neither stretched nor scaled: 1 where beats are alike, NaN where fewer than
            three complexes leave it unknown.
        background: The median steepness over that of the typical complex: near 0 where complexes
            stand out, 1 where no place is steeper than another.
    """

    count: int
    repeatability: float
    background: float


def find_complexes(x: np.ndarray, fs: float) -> Complexes:
    """Finds and compares the steep places of a window.

    A heart repeats itself: normal, paced and broad complexes alike, at any rate and however
    irregularly, and beats of two or three kinds each among themselves. Noise does not.

    Args:
        x: [time], band-passed, of at least a second.
        fs: Sampling rate, Hz.
    """
    step = max(1, round(fs / _FS))
    fs = fs / step
    lag = max(1, round(_SLOPE_S * fs))
    kept = x[::step]
    slope = kept[lag:] - kept[:-lag]
    steepness = _root_mean_square(slope, max(1, round(_ENVELOPE_S * fs)))
    peaks, _ = dsp.find_peaks(steepness, distance=max(1, round(_APART_S * fs)))
    if not len(peaks):
        return Complexes(0, np.nan, 1.0)
    strongest = np.sort(steepness[peaks])[-max(3, int(kept.size / fs)) :]
    typical = np.median(strongest)
    background = float(np.median(steepness) / typical) if typical > 0 else 1.0
    peaks = peaks[steepness[peaks] > _LOWEST * typical]
    before, after, align = (round(s * fs) for s in (_BEFORE_S, _AFTER_S, _ALIGN_S))
    whole = (peaks >= before + align) & (peaks + after + align <= slope.size)
    peaks = peaks[whole]
    if len(peaks) < 3:
        return Complexes(len(peaks), np.nan, background)
    around = sliding_window_view(slope, before + after + 2 * align)[peaks - before - align]
    alike = _likeness(around, before + after)
    np.fill_diagonal(alike, -1.0)
    others = 2 if len(peaks) >= _MANY else 1
    best = np.partition(alike, -others, axis=1)[:, -others]
    return Complexes(len(peaks), float(np.median(best)), background)


def _root_mean_square(x: np.ndarray, width: int) -> np.ndarray:
    """Returns [time]: over `width` samples around each, as if zeros went on at the ends."""
    total = np.cumsum(np.pad(x * x, (width // 2 + 1, width - 1 - width // 2)))
    return np.sqrt(np.maximum(total[width:] - total[:-width], 0.0) / width)


def _likeness(around: np.ndarray, width: int) -> np.ndarray:
    """Compares each complex with each at the shift that suits them best.

    Args:
        around: [complexes, width + 2 · shifts each way], the slope around each.
        width: Length compared, samples.

    Returns:
        [complexes, complexes], symmetric: 2 a·b / (|a|² + |b|²) of the two.
    """
    shifts = around.shape[1] - width + 1
    total = np.cumsum(np.pad(around**2, ((0, 0), (1, 0))), axis=1)
    energy = total[:, width:] - total[:, :-width]
    middle = shifts // 2
    centred = around[:, middle : middle + width]
    centred_energy = energy[:, middle] + np.finfo(float).tiny
    alike = np.full((len(around), len(around)), -1.0)
    for shift in range(shifts):
        products = 2 * (around[:, shift : shift + width] @ centred.T)
        np.maximum(alike, products / (energy[:, shift, None] + centred_energy), out=alike)
    return np.maximum(alike, alike.T)
