"""Units of samples: what was said, and whether the amplitudes bear it out."""

from collections.abc import Iterable

import numpy as np

from clef_jax.data.recordings.channels import MV_PER_UNIT

# Peak to peak within a second, median over the recording, so that baseline drift does not count.
# The weakest ECG spans 0.1 mV, the largest 10 mV.
_LARGEST_MV = 15.0
_SMALLEST_MV = 0.02
_SECONDS_LOOKED_AT = 60

# 1 % to 99 % of a lead's samples. The weakest ECG spans 0.1 mV, the largest about 10 mV, an
# amplifier with 16 bits at 1 µV 65 mV; microvolts taken for millivolts give 100 and more.
_IMPLAUSIBLE_RANGE_MV = 100.0
# Peak to peak in every lead; the reverse mistake, millivolts taken for microvolts, gives 0.001.
_IMPLAUSIBLY_SMALL_MV = 0.02


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


def amplitude_fault(pieces: Iterable[np.ndarray], units: str) -> str | None:
    """Says which wrong unit in a WFDB header alone explains the amplitudes, None where none does.

    Args:
        pieces: [leads, time] each, mV by the header; NaN marks missing samples. Leads that stand
            still say nothing.
        units: What the header declares.
    """
    stretches = [x[np.isfinite(x)] for piece in pieces for x in piece]
    spans = [np.ptp(x) if x.size else 0.0 for x in stretches]
    ranges = [span for span in spans if span]
    if not ranges:
        return None
    if np.median(ranges) > _IMPLAUSIBLE_RANGE_MV:
        # Single spikes of an otherwise sound recording are no unit mistake.
        moving = [x for x, span in zip(stretches, spans, strict=True) if span]
        spread = np.median([np.ptp(np.percentile(x, [1, 99])) for x in moving])
        if spread > _IMPLAUSIBLE_RANGE_MV:
            return (
                f"declared in {units}, the leads span {spread:.6g} mV; expected 0.1 to 10 mV: the "
                "samples are probably µV; write /uV as the unit or multiply the gain by 1000 in "
                "the header"
            )
    elif max(ranges) < _IMPLAUSIBLY_SMALL_MV and units.lower() != "mv":
        return (
            f"declared in {units}, the leads span at most {max(ranges):.5f} mV; expected 0.1 to 10 "
            "mV: the samples are probably mV; write /mV as the unit in the header"
        )
    return None
