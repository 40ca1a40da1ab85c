"""Patients drawn again, intervals from what is drawn, and the price of many tests."""

from collections.abc import Sequence

import numpy as np
import scipy.special

_CONFIDENCE = 0.95


def patient_draws(patients: int, resamples: int, seed: int) -> np.ndarray:
    """Returns how often each patient is drawn, int16 `[1 + resamples, patients]`.

    The first row is the sample itself, every patient once.
    """
    rng = np.random.default_rng(seed)
    share = np.full(patients, 1 / patients)
    draws = np.ones((1 + resamples, patients), np.int16)
    for row in range(1, 1 + resamples):
        draws[row] = rng.multinomial(patients, share)
    return draws


def effective_patients(rows: np.ndarray) -> float:
    """Returns how many patients with equally many rows would say as much (Kish 1965).

    Args:
        rows: `[patients]`, rows of each.
    """
    return rows.sum() ** 2 / max(np.sum(np.square(rows, dtype=float)), 1)


def interval(drawn: np.ndarray, patients: float) -> tuple[float, float]:
    """Returns the bounds of a 95 % interval from a figure's draws.

    Quantiles of a bootstrap are those of a normal distribution with a spread too small by
    sqrt((n - 1) / n). They are taken further out by that and by what Student's distribution is
    wider than the normal one (Hesterberg, The American Statistician 2015, "expanded percentile"),
    without which an interval of 40 patients holds the truth less often than it says.

    Args:
        drawn: `[draws]`; NaN are left out.
        patients: How many they are of, as `effective_patients` counts.

    Returns:
        NaN twice where there are fewer than two patients, or no draws, or where every draw is a
        perfect 1: what few patients never get wrong, others may.
    """
    drawn = drawn[np.isfinite(drawn)]
    if patients < 1.5 or not drawn.size or np.all(drawn == 1):
        return np.nan, np.nan
    student = scipy.special.stdtrit(patients - 1, (1 + _CONFIDENCE) / 2)
    outside = scipy.special.ndtr(-student * np.sqrt(patients / (patients - 1)))
    low, high = np.quantile(drawn, (outside, 1 - outside))
    return float(low), float(high)


def over_seeds(figures: Sequence[np.ndarray], seed: int) -> np.ndarray:
    """Returns figures of a training with any of several seeds.

    A draw is of one seed's training, then of patients: an interval from it is about what another
    training would reach on other patients.

    Args:
        figures: Of each seed `[1 + draws, ...]`, all of the same patients' draws.
        seed: Seed of the choices.

    Returns:
        `[1 + draws, ...]`, the first row the mean over the seeds.
    """
    stacked = np.stack(figures)
    chosen = np.random.default_rng(seed).integers(len(stacked), size=stacked.shape[1])
    drawn = stacked[chosen, np.arange(stacked.shape[1])]
    drawn[0] = stacked[:, 0].mean(axis=0)
    return drawn


def holm(p: np.ndarray) -> np.ndarray:
    """Returns p-values `[n]` adjusted for their number (Holm 1979); NaN are not counted."""
    adjusted = np.full(len(p), np.nan)
    tested = np.flatnonzero(np.isfinite(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1)
    return adjusted
