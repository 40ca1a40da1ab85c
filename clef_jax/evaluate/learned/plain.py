"""Plain measurements of one lead, as a sceptic would take them: rate, rhythm, waves, amplitudes.

They stand beside embeddings in the report: what a ruler reads needs no encoder.
"""

import numpy as np
import scipy.signal

# Around each R peak, s.
_BEFORE_S, _AFTER_S = 0.3, 0.5
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


def r_peaks(x: np.ndarray, fs: float) -> np.ndarray:
    """Returns the samples of the QRS complexes of one band-passed lead `[T]` at `fs` Hz."""
    fs = round(fs)
    slope = np.square(np.gradient(x))
    energy = np.convolve(slope, np.full(fs // 10, 10 / fs), "same")
    # A premature beat may be five times as steep as the others; a noisy burst as well.
    typical = np.median([part.max() for part in np.array_split(energy, 5)])
    found, _ = scipy.signal.find_peaks(energy, height=0.25 * typical, distance=fs // 4)
    reach = fs // 12
    centred = np.abs(x - np.median(x))
    return np.array(
        [
            start + np.argmax(centred[start : peak + reach])
            for peak in found
            for start in [max(peak - reach, 0)]
        ],
        dtype=np.int64,
    )


def plain_features(x_mv: np.ndarray, fs: float) -> np.ndarray:
    """Measures one preprocessed lead.

    Args:
        x_mv: `[T]`, mV, band-passed.
        fs: Sampling rate, Hz.

    Returns:
        float64 `[len(PLAIN_FEATURES)]`, in that order; NaN where too few beats are found.
    """
    features = np.full(len(PLAIN_FEATURES), np.nan)
    features[4] = x_mv.std()
    peaks = r_peaks(x_mv, fs)
    before, after = _samples(_BEFORE_S, fs), _samples(_AFTER_S, fs)
    if len(peaks) >= 4:
        features[:4] = _rhythm(np.diff(peaks) / fs)
    inside = peaks[(peaks >= before) & (peaks < len(x_mv) - after)]
    if len(inside) >= 3:
        beats = np.stack([x_mv[peak - before : peak + after] for peak in inside])
        features[5:] = _waves(beats, fs, 60 / features[0] if len(peaks) >= 4 else np.nan)
    return features


def _rhythm(rr):
    return (
        60 / np.mean(rr),
        np.log(np.std(rr) + 1e-3),
        np.log(np.sqrt(np.mean(np.diff(rr) ** 2)) + 1e-3),
        np.min(rr) / np.median(rr),
    )


def _waves(beats, fs, rr_s):
    """Measures the median of beats `[n, time]` around their R peaks."""
    before = _samples(_BEFORE_S, fs)
    beat = np.median(beats, axis=0)
    beat = beat - np.median(beat[_span(_P[0] - 0.05, _P[0], fs)])
    r = np.abs(beat[before]) + 1e-3
    p, t = (_largest(beat, *where, fs) for where in (_P, _T))
    half = np.flatnonzero(np.abs(np.gradient(beat)) > 0.1 * np.abs(np.gradient(beat)).max())
    near = half[np.abs(half - before) < 0.12 * fs]
    return (
        r,
        beat[_span(*_Q, fs)].min() / r,
        beat[_span(*_S, fs)].min() / r,
        beat[p] / r,
        beat[_span(*_ST, fs)].mean() / r,
        beat[t] / r,
        float(beat[before] > 0),
        (before - p) / fs,
        (t - before) / fs,
        (t - before) / fs + 0.154 * (1 - rr_s),
        np.ptp(near) / fs if near.size else np.nan,
        np.log(np.median(np.abs(beats - np.median(beats, axis=0))) / r + 1e-4),
    )


def _samples(seconds, fs):
    return round(seconds * fs)


def _span(start_s, end_s, fs):
    before = _samples(_BEFORE_S, fs)
    return slice(before + _samples(start_s, fs), before + _samples(end_s, fs))


def _largest(beat, start_s, end_s, fs):
    span = _span(start_s, end_s, fs)
    return span.start + int(np.argmax(np.abs(beat[span])))
