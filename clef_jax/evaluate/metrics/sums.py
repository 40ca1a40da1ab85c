"""Weighted means and ratios of draws."""

import numpy as np


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divides, of equal shapes; NaN where there is nothing to divide by."""
    blank = np.full(numerator.shape, np.nan)
    return np.divide(numerator, denominator, out=blank, where=denominator > 0)


def mean(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Returns the weighted means `[draws]` of values `[n]`; NaN for draws without weight."""
    return ratio(weights @ values, weights.sum(axis=1))


def group_ends(ordered: np.ndarray) -> np.ndarray:
    """Returns the last position of each run of equal values among sorted ones `[n]`."""
    return np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
