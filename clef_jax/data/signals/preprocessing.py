"""What happens to the samples of a recording before the encoder sees them (numpy float64).

The last axis of every array is time; amplitudes are millivolts.
"""

import functools
import math
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike
from scipy import signal as dsp

from clef_jax.data.signals.rates import rate_fault, rate_remedy
from clef_jax.data.signals.spec import CLEF_V2, ECG_BAND_HZ, PreprocessingSpec
from clef_jax.errors import ClefError


class SignalError(ClefError):
    """A signal that cannot be preprocessed; the message says what it lacks."""


def fill_gaps(x: ArrayLike) -> np.ndarray:
    """Replaces non-finite samples by straight lines, and by the nearest sample at the ends.

    Args:
        x: [..., time].

    Returns:
        float64 [..., time]; a copy only where there are gaps.

    Raises:
        SignalError: A channel has no finite sample at all.

    Example:
        >>> fill_gaps([0.0, np.nan, 2.0, np.nan])
        array([0., 1., 2., 2.])
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
            raise SignalError(
                f"channel {at} has no finite sample to fill its gaps from; leave the channel out"
            )
        filled[at][~good] = np.interp(times[~good], times[good], x[at][good])
    return filled


@functools.lru_cache(maxsize=32)
def _butterworth(fs: float, band_hz: tuple[float, float], order: int):
    if fs <= 2 * band_hz[1]:
        raise SignalError(
            f"a band-pass of {band_hz[0]}-{band_hz[1]} Hz needs more than {2 * band_hz[1]} Hz "
            f"sampling, got {fs} Hz; resample first"
        )
    return dsp.butter(order, band_hz, btype="bandpass", fs=fs)


def bandpass(
    x: ArrayLike,
    fs: float,
    *,
    band_hz: tuple[float, float] = ECG_BAND_HZ,
    order: int = CLEF_V2.order,
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

    Example:
        An offset goes, a wave of 10 Hz stays.

        >>> wave = np.sin(2 * np.pi * 10 * np.arange(5000) / 500)
        >>> bool(np.abs(bandpass(2 + wave, 500) - wave)[1000:4000].max() < 0.05)
        True
    """
    b, a = _butterworth(float(fs), tuple(band_hz), order)
    return dsp.filtfilt(b, a, np.asarray(x, np.float64), axis=-1)


def up_down(fs_in: float, fs_out: float) -> tuple[int, int]:
    """Returns the fraction up / down by which `resample` changes a rate, in lowest terms.

    Raises:
        SignalError: A rate is not positive.
    """
    if not (0 < fs_in < math.inf and 0 < fs_out < math.inf):
        raise SignalError(f"sampling rates must be positive, got {fs_in} Hz and {fs_out} Hz")
    # A rate such as 499.97 Hz has no small fraction; at this bound ten seconds end half a
    # millisecond early or late at worst.
    ratio = Fraction(fs_out) / Fraction(fs_in)
    return ratio.limit_denominator(PreprocessingSpec.max_denominator).as_integer_ratio()


@functools.lru_cache(maxsize=16)
def _low_pass(up: int, down: int) -> np.ndarray:
    """Returns the filter that resample_poly designs by itself, again at every call."""
    largest = max(up, down)
    kaiser = ("kaiser", PreprocessingSpec.kaiser_beta)
    return dsp.firwin(20 * largest + 1, 1 / largest, window=kaiser)


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
        SignalError: A rate is not positive.

    Example:
        >>> resample(np.zeros((12, 2500)), fs_in=250, fs_out=500).shape
        (12, 5000)
    """
    x = np.asarray(x, np.float64)
    up, down = up_down(fs_in, fs_out)
    if up == down:
        return x
    return dsp.resample_poly(
        x, up, down, axis=-1, window=_low_pass(up, down), padtype=PreprocessingSpec.padtype
    )


def zscore(x: ArrayLike) -> np.ndarray:
    """Scales each channel to mean 0 and standard deviation 1; a constant channel becomes 0.

    Example:
        >>> zscore([[1.0, 2.0, 3.0], [7.0, 7.0, 7.0]]).round(2)
        array([[-1.22,  0.  ,  1.22],
               [ 0.  ,  0.  ,  0.  ]])
    """
    return _standardised(np.asarray(x, np.float64), -1)


def normalise(x: ArrayLike, spec: PreprocessingSpec) -> np.ndarray:
    """Scales windows to mean 0 and standard deviation 1, over what `spec.normalisation` names.

    Args:
        x: [..., leads, time], the leads being those that the encoder sees at once.
        spec: Whose normalisation.

    Returns:
        float64, of the same shape.
    """
    over = -1 if spec.normalisation == "lead" else (-2, -1)
    return _standardised(np.asarray(x, np.float64), over)


def _standardised(x: np.ndarray, axis: int | tuple[int, int]) -> np.ndarray:
    centred = x - x.mean(axis=axis, keepdims=True)
    return centred / (x.std(axis=axis, keepdims=True) + PreprocessingSpec.zscore_epsilon)


def native_samples(fs: float, spec: PreprocessingSpec = CLEF_V2) -> int:
    """Returns of how many samples at `fs` (Hz) a window is made: the fewest that are enough."""
    up, down = up_down(fs, spec.fs)
    return (spec.samples - 1) * down // up + 1


def window_starts(
    samples: int, fs: float, spec: PreprocessingSpec = CLEF_V2, stride_s: float | None = None
) -> np.ndarray:
    """Returns int64 [windows], the first sample of every whole window of a recording.

    Args:
        samples: Length of the recording.
        fs: Its rate, Hz.
        spec: Of what length a window is.
        stride_s: From one window's start to the next; its length when None.
    """
    stride_s = spec.seconds if stride_s is None else stride_s
    room = samples - native_samples(fs, spec)
    if room < 0:
        return np.zeros(0, np.int64)
    count = math.floor((room + 0.5) / (stride_s * fs)) + 1
    starts = np.rint(np.arange(count) * stride_s * fs).astype(np.int64)
    return starts[starts <= room]


def preprocess(
    signal_mv: ArrayLike,
    fs: float,
    spec: PreprocessingSpec = CLEF_V2,
    *,
    allow_short: bool = False,
) -> np.ndarray:
    """Fills gaps of the first `native_samples`, resamples them to `spec.samples` and band-passes.

    What is left for the encoder's input is `normalise`, and removing spikes before.

    Args:
        signal_mv: [leads, time] or [time], mV; NaN marks missing samples.
        fs: Sampling rate, Hz.
        spec: What to do.
        allow_short: Whether a shorter recording gives as many samples as it has.

    Returns:
        float64 [leads, spec.samples], mV.

    Raises:
        SignalError: No ECG is sampled at that rate, the recording is too short, or a lead whose
            gaps are to be filled by lines holds no finite sample.
    """
    if fault := rate_fault(fs, spec):
        raise SignalError(f"{fault}; {rate_remedy(fs, spec)}")
    needed = native_samples(fs, spec)
    x = np.asarray(signal_mv, np.float64)[..., :needed]
    if x.shape[-1] < needed and not allow_short:
        raise SignalError(
            f"recording of {x.shape[-1] / fs:.2f} s is shorter than the {spec.seconds:g} s the "
            "encoder needs"
        )
    x = np.where(np.isfinite(x), x, 0.0) if spec.gaps == "zeros" else fill_gaps(x)
    x = resample(x, fs, spec.fs)[..., : spec.samples]
    if spec.band_hz is None:
        return x
    return bandpass(x, spec.fs, band_hz=spec.band_hz, order=spec.order)


def in_ecg_band(x: np.ndarray, spec: PreprocessingSpec) -> np.ndarray:
    """Returns preprocessed leads as measurements and judges of noise take them: band-passed.

    Args:
        x: [..., time], preprocessed by `spec`, in any unit.
        spec: May leave more than 0.67 to 40 Hz, below or above, or not band-pass at all.

    Returns:
        [..., time]; `x` itself where the spec's band lies within the ECG's.
    """
    lowest, highest = ECG_BAND_HZ
    if spec.band_hz is not None and lowest <= spec.band_hz[0] and spec.band_hz[1] <= highest:
        return x
    return bandpass(x, spec.fs)
