"""Plain measurements of one lead, as a sceptic would take them: rate, rhythm, waves, amplitudes.

They stand beside embeddings in the report: what a ruler reads needs no encoder.
"""

import numpy as np
import scipy.signal

from clef_jax.data.signals.spec import PREPROCESSING

_FS = round(PREPROCESSING.fs)
_BEFORE, _AFTER = round(0.3 * _FS), round(0.5 * _FS)
# Where each wave lies, s from the R peak.
_P, _Q, _S, _ST, _T = (-0.25, -0.08), (-0.06, 0.0), (0.0, 0.08), (0.08, 0.12), (0.14, 0.45)

PLAIN_FEATURES = (
    "heart rate, 1/min",
    "log RR standard deviation, s",
    "log RMSSD, s",
    "shortest over median RR",
    "amplitude: standard deviation, mV",
    "R, mV",
    "Q over R",
    "S over R",
    "P over R",
    "ST over R",
    "T over R",
    "R upright",
    "P to R, s",
    "R to T, s",
    "corrected R to T, s",
    "QRS width, s",
    "log beat-to-beat change over R",
)


def r_peaks(x: np.ndarray) -> np.ndarray:
    """Returns the samples of the QRS complexes of one band-passed lead `[T]` at 500 Hz."""
    slope = np.square(np.gradient(x))
    energy = np.convolve(slope, np.full(_FS // 10, 10 / _FS), "same")
    # A premature beat may be five times as steep as the others; a noisy burst as well.
    typical = np.median([part.max() for part in np.array_split(energy, 5)])
    found, _ = scipy.signal.find_peaks(energy, height=0.25 * typical, distance=_FS // 4)
    reach = _FS // 12
    centred = np.abs(x - np.median(x))
    return np.array(
        [
            start + np.argmax(centred[start : peak + reach])
            for peak in found
            for start in [max(peak - reach, 0)]
        ],
        dtype=np.int64,
    )


def plain_features(x_mv: np.ndarray) -> np.ndarray:
    """Measures one preprocessed lead.

    Args:
        x_mv: `[T]`, mV, band-passed, 500 Hz.

    Returns:
        float64 `[len(PLAIN_FEATURES)]`, in that order; NaN where too few beats are found.
    """
    features = np.full(len(PLAIN_FEATURES), np.nan)
    features[4] = x_mv.std()
    peaks = r_peaks(x_mv)
    if len(peaks) >= 4:
        features[:4] = _rhythm(np.diff(peaks) / _FS)
    inside = peaks[(peaks >= _BEFORE) & (peaks < len(x_mv) - _AFTER)]
    if len(inside) >= 3:
        beats = np.stack([x_mv[peak - _BEFORE : peak + _AFTER] for peak in inside])
        features[5:] = _waves(beats, 60 / features[0] if len(peaks) >= 4 else np.nan)
    return features


def _rhythm(rr):
    return (
        60 / np.mean(rr),
        np.log(np.std(rr) + 1e-3),
        np.log(np.sqrt(np.mean(np.diff(rr) ** 2)) + 1e-3),
        np.min(rr) / np.median(rr),
    )


def _waves(beats, rr_s):
    """Measures the median of beats `[n, time]` around their R peaks."""
    beat = np.median(beats, axis=0)
    beat = beat - np.median(beat[_span(_P[0] - 0.05, _P[0])])
    r = np.abs(beat[_BEFORE]) + 1e-3
    p, t = (_largest(beat, *where) for where in (_P, _T))
    half = np.flatnonzero(np.abs(np.gradient(beat)) > 0.1 * np.abs(np.gradient(beat)).max())
    near = half[np.abs(half - _BEFORE) < 0.12 * _FS]
    return (
        r,
        beat[_span(*_Q)].min() / r,
        beat[_span(*_S)].min() / r,
        beat[p] / r,
        beat[_span(*_ST)].mean() / r,
        beat[t] / r,
        float(beat[_BEFORE] > 0),
        (_BEFORE - p) / _FS,
        (t - _BEFORE) / _FS,
        (t - _BEFORE) / _FS + 0.154 * (1 - rr_s),
        np.ptp(near) / _FS if near.size else np.nan,
        np.log(np.median(np.abs(beats - np.median(beats, axis=0))) / r + 1e-4),
    )


def _span(start_s, end_s):
    return slice(_BEFORE + round(start_s * _FS), _BEFORE + round(end_s * _FS))


def _largest(beat, start_s, end_s):
    span = _span(start_s, end_s)
    return span.start + int(np.argmax(np.abs(beat[span])))
