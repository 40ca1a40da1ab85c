"""What happens to the samples of a recording before the encoder sees them (numpy float64).

The last axis of every array is time; amplitudes are millivolts.
"""

import dataclasses
import functools
import math
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike
from scipy import signal as dsp


@dataclasses.dataclass(frozen=True)
class PreprocessingSpec:
    """The preprocessing that shards and checkpoints are made with and compared by.

    Attributes:
        version: Raised whenever the code below changes the numbers it gives.
        fs: Sampling rate after resampling, Hz.
        samples: Length kept from the start of the recording, samples at `fs`.
        band_hz: Corner frequencies of the band-pass, Hz.
        order: Order of the Butterworth band-pass.
        gaps: How missing samples are filled.
        resampling: How the rate is changed.
    """

    version: int = 1
    fs: float = 500.0
    samples: int = 5000
    band_hz: tuple[float, float] = (0.67, 40.0)
    order: int = 5
    gaps: str = "linear"
    resampling: str = "polyphase"

    @property
    def seconds(self) -> float:
        """Length kept, seconds."""
        return self.samples / self.fs

    def to_dict(self) -> dict:
        """Returns the spec as a JSON-ready dictionary."""
        return dataclasses.asdict(self) | {"band_hz": list(self.band_hz)}


PREPROCESSING = PreprocessingSpec()


def fill_gaps(x: ArrayLike) -> np.ndarray:
    """Replaces non-finite samples by straight lines, and by the nearest sample at the ends.

    Args:
        x: [..., time].

    Returns:
        float64 [..., time]; a copy only where there are gaps.

    Raises:
        ValueError: A channel has no finite sample at all.
    """
    x = np.asarray(x, np.float64)
    finite = np.isfinite(x)
    if finite.all():
        return x
    filled = x.copy()
    times = np.arange(x.shape[-1])
    for channel in np.argwhere(~finite.all(axis=-1)):
        at = tuple(channel.tolist())
        good = finite[at]
        if not good.any():
            raise ValueError(
                f"channel {at} has no finite sample to fill its gaps from; leave the channel out"
            )
        filled[at][~good] = np.interp(times[~good], times[good], x[at][good])
    return filled


@functools.lru_cache(maxsize=32)
def _butterworth(fs: float, band_hz: tuple[float, float], order: int):
    if fs <= 2 * band_hz[1]:
        raise ValueError(
            f"a band-pass of {band_hz[0]}-{band_hz[1]} Hz needs more than {2 * band_hz[1]} Hz "
            f"sampling, got {fs} Hz; resample first"
        )
    return dsp.butter(order, band_hz, btype="bandpass", fs=fs)


def bandpass(
    x: ArrayLike,
    fs: float,
    *,
    band_hz: tuple[float, float] = PREPROCESSING.band_hz,
    order: int = PREPROCESSING.order,
) -> np.ndarray:
    """Zero-phase Butterworth band-pass.

    Second-order sections would be better conditioned, but the released weights were trained on this
    (b, a) form, whose rounding shows at the 1e-3 level.

    Args:
        x: [..., time], without gaps, longer than 33 samples at order 5.
        fs: Sampling rate, Hz.
        band_hz: Corner frequencies, Hz.
        order: Filter order.

    Returns:
        float64 [..., time].
    """
    b, a = _butterworth(float(fs), tuple(band_hz), order)
    return dsp.filtfilt(b, a, np.asarray(x, np.float64), axis=-1)


def _resampling_ratio(fs_in: float, fs_out: float) -> Fraction:
    if not (fs_in > 0 and fs_out > 0):
        raise ValueError(f"sampling rates must be positive, got {fs_in} Hz and {fs_out} Hz")
    # A rate such as 499.97 Hz has no small ratio; at this bound the time axis is right to 1e-8.
    return (Fraction(fs_out) / Fraction(fs_in)).limit_denominator(10_000)


def resampled_samples(samples: int, fs_in: float, fs_out: float) -> int:
    """Returns how many samples at `fs_out` (Hz) `resample` makes of `samples` at `fs_in` (Hz)."""
    return math.ceil(samples * _resampling_ratio(fs_in, fs_out))


def resample(x: ArrayLike, fs_in: float, fs_out: float) -> np.ndarray:
    """Changes the sampling rate by a polyphase filter; sample 0 stays at time 0.

    The line through the first and last sample is taken off before filtering and put back after, so
    that an electrode offset of several mV does not ring at the ends.

    Args:
        x: [..., time], without gaps.
        fs_in: Rate of `x`, Hz.
        fs_out: Rate wanted, Hz.

    Returns:
        float64 [..., ceil(time · fs_out / fs_in)].

    Raises:
        ValueError: A rate is not positive.
    """
    x = np.asarray(x, np.float64)
    ratio = _resampling_ratio(fs_in, fs_out)
    if ratio == 1:
        return x
    return dsp.resample_poly(x, ratio.numerator, ratio.denominator, axis=-1, padtype="line")


def zscore(x: ArrayLike) -> np.ndarray:
    """Scales each channel to mean 0 and standard deviation 1; a constant channel becomes 0."""
    x = np.asarray(x, np.float64)
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / (x.std(axis=-1, keepdims=True) + 1e-8)


def native_samples(fs: float, spec: PreprocessingSpec = PREPROCESSING) -> int:
    """Returns how many samples at `fs` (Hz) `preprocess` looks at.

    A second more than it keeps: enough for the resampling filter to see no end where the recording
    goes on.
    """
    return math.ceil((spec.seconds + 1.0) * fs)


def preprocess(
    signal_mv: ArrayLike, fs: float, spec: PreprocessingSpec = PREPROCESSING
) -> np.ndarray:
    """Fills gaps, resamples, keeps the first `spec.samples` and band-passes exactly those.

    Args:
        signal_mv: [leads, time] or [time], mV; NaN marks missing samples.
        fs: Sampling rate, Hz.
        spec: What to do.

    Returns:
        float64 [leads, spec.samples], mV.

    Raises:
        ValueError: The recording is too short, or a lead holds no finite sample.
    """
    x = np.asarray(signal_mv, np.float64)[..., : native_samples(fs, spec)]
    x = resample(fill_gaps(x), fs, spec.fs)
    if x.shape[-1] < spec.samples:
        raise ValueError(
            f"recording of {np.shape(signal_mv)[-1] / fs:.2f} s is shorter than the "
            f"{spec.seconds:g} s the encoder needs"
        )
    return bandpass(x[..., : spec.samples], spec.fs, band_hz=spec.band_hz, order=spec.order)
