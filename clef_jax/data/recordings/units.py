"""Units of samples whose file names none: what was said, and whether the amplitudes bear it out."""

import numpy as np

from clef_jax.data.recordings.channels import MV_PER_UNIT

# Peak to peak within a second, median over the recording, so that baseline drift does not count.
# The weakest ECG spans 0.1 mV, the largest 10 mV.
_LARGEST_MV = 15.0
_SMALLEST_MV = 0.02
_SECONDS_LOOKED_AT = 60


def mv_per_unit(units: str) -> float:
    """Returns the millivolts of a unit in any usual spelling.

    Raises:
        ValueError: It is no unit of voltage.
    """
    factor = MV_PER_UNIT.get(units.strip().lower())
    if factor is None:
        raise ValueError(f"units {units!r}; expected mV, uV, V or nV")
    return factor


def unit_doubt(x: np.ndarray, fs: float) -> str | None:
    """Says what betrays that a lead is not in millivolts, or None where it may be.

    Args:
        x: [time], taken for mV; NaN marks missing samples.
        fs: Sampling rate, Hz.
    """
    size = max(2, min(round(fs), x.size))
    starts = np.linspace(0, x.size - size, min(_SECONDS_LOOKED_AT, max(1, x.size // size)))
    seconds = [np.asarray(x[start : start + size], np.float64) for start in starts.astype(int)]
    seconds = [second[np.isfinite(second)] for second in seconds]
    seconds = [second for second in seconds if second.size and np.ptp(second)]
    if not seconds:
        return None
    span = float(np.median([np.ptp(second) for second in seconds]))
    if all(np.array_equal(second, np.rint(second)) for second in seconds):
        return f"the samples are whole numbers, {span:g} peak to peak: µV or a recorder's counts"
    if span > _LARGEST_MV:
        return f"the samples span {span:.4g} peak to peak: probably µV or a recorder's counts"
    if span < _SMALLEST_MV:
        return f"the samples span {span:.2g} peak to peak: probably V"
    return None
