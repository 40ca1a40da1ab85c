"""Samples that no heart makes (numpy float64)."""

import numpy as np
from numpy.typing import ArrayLike

from clef_jax.data.signals.spec import CLEF_V2, PreprocessingSpec

# A kilovolt is no measurement, and the square of 1e200 no number.
_NO_VOLTAGE_MV = 1e6
# Flanks of a spike are the samples beside it that few others of the lead are as far away as.
_ORDINARY = 0.98
# A needle stands out of the samples this long before and after it.
_NEEDLE_S = 0.01
# Upright R waves of the largest hearts stand out less, at any rate from 100 Hz up.
_NEEDLE_MV = 2.0
# A pacemaker's pulses are needles too, but one resembles the next, at most 2 s later.
_LONE_NEEDLE = 3.0
_SHORTEST_S = 3.0


def remove_spikes(
    signal_mv: ArrayLike, fs: float, spec: PreprocessingSpec = CLEF_V2
) -> tuple[np.ndarray, np.ndarray]:
    """Makes gaps of lone samples beyond what an ECG can be, and finds lone needles.

    Samples further from their lead's median than `spec.spike_mv` become NaN, together with the
    flanks that lead up to them, where they are at most `spec.spike_share` of the lead; more of them
    are an amplifier at its rail, which `lead_faults` names. A single needle less tall than that
    stays, as it may be the only pulse of a pacemaker in sight.

    Args:
        signal_mv: [leads, time], mV; NaN marks missing samples.
        fs: Sampling rate, Hz.
        spec: Says what a spike is; where it says None, none but needles are found, and they stay.

    Returns:
        The signal, a copy only where it differs, and bool [leads]: which had spikes or a needle.
    """
    x = np.array(signal_mv, np.float64)
    no_voltage = np.abs(x) > _NO_VOLTAGE_MV
    x[no_voltage] = np.nan
    spiky = np.asarray(no_voltage.any(axis=-1))
    for lead, samples in enumerate(x):
        outliers = _outliers(samples, spec)
        samples[outliers] = np.nan
        spiky[lead] |= outliers.any() or _has_lone_needle(samples, fs)
    return x, spiky


def _outliers(x: np.ndarray, spec: PreprocessingSpec) -> np.ndarray:
    """Returns bool [time]: few samples far away, and their flanks."""
    none = np.zeros(x.size, bool)
    finite = x[np.isfinite(x)]
    if spec.spike_mv is None or not finite.size or np.ptp(finite) <= spec.spike_mv:
        return none
    distance = np.abs(x - np.median(finite))
    beyond = distance > spec.spike_mv
    if beyond.mean() > spec.spike_share:
        return none
    raised = distance > np.nanquantile(distance, _ORDINARY)
    stretch = np.cumsum(np.diff(raised, prepend=False))
    return raised & np.isin(stretch, stretch[beyond])


def _has_lone_needle(x: np.ndarray, fs: float) -> bool:
    if x.size < _SHORTEST_S * fs:
        return False
    reach = max(1, round(_NEEDLE_S * fs))
    before = x[reach:-reach] - x[: -2 * reach]
    after = x[reach:-reach] - x[2 * reach :]
    # Missing samples compare as False.
    height = np.where(before * after > 0, np.minimum(np.abs(before), np.abs(after)), 0.0)
    tallest = int(height.argmax())
    if height[tallest] < _NEEDLE_MV:
        return False
    elsewhere = np.abs(np.arange(height.size) - tallest) > 2 * reach
    return bool(height[tallest] > _LONE_NEEDLE * height[elsewhere].max(initial=0.0))
