"""ROC and precision-recall curves with 95 % bands over patients."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from clef_jax.evaluate.metrics.sums import group_ends
from clef_jax.evaluate.statistics.predictions import Scored
from clef_jax.evaluate.statistics.resampling import interval, over_seeds, patient_draws

_DRAWS = 200
_POINTS = 41


class Band(NamedTuple):
    """A curve over x, all `[points]`, with the bounds of its band."""

    x: np.ndarray
    y: np.ndarray
    low: np.ndarray
    high: np.ndarray


def curve_bands(trainings: Sequence[Scored], column: int, seed: int = 0) -> tuple[Band, Band]:
    """Returns the ROC and the precision-recall curve of a label.

    Args:
        trainings: Test predictions of one model by its trainings, of the same examples.
        column: The label, which has examples with and without it.
        seed: Seed of the draws of patients.
    """
    first = trainings[0]
    names, codes = np.unique(first.patient, return_inverse=True)
    known = np.isfinite(first.target[:, column])
    weights = patient_draws(len(names), _DRAWS, seed)[:, codes[known]].astype(np.float64)
    grid = np.linspace(0, 1, _POINTS)
    found = [
        _curves(weights, of_it.target[known, column], of_it.score[known, column], grid)
        for of_it in trainings
    ]
    roc, precision = (over_seeds(of_seeds, seed) for of_seeds in zip(*found, strict=True))
    return _band(grid, roc, len(names)), _band(grid[1:], precision[:, 1:], len(names))


def _curves(
    weights: np.ndarray, target: np.ndarray, score: np.ndarray, grid: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns sensitivity by 1 - specificity and precision by sensitivity `[draws, points]`."""
    order = np.argsort(-score, kind="stable")
    ends = group_ends(score[order])
    found = np.cumsum(weights[:, order] * target[order], axis=1)[:, ends]
    said = np.cumsum(weights[:, order], axis=1)[:, ends]
    curves = np.full((2, len(weights), len(grid)), np.nan)
    for row in range(len(weights)):
        positives, negatives = found[row, -1], said[row, -1] - found[row, -1]
        if positives and negatives:
            sensitivity = np.append(0, found[row] / positives)
            false = np.append(0, (said[row] - found[row]) / negatives)
            curves[0, row] = np.interp(grid, false, sensitivity)
            precision = found[row] / np.maximum(said[row], 1)
            # The first threshold that finds so many.
            at = np.searchsorted(found[row], grid * positives - 1e-9)
            curves[1, row] = precision[np.minimum(at, len(ends) - 1)]
    return curves[0], curves[1]


def _band(x: np.ndarray, drawn: np.ndarray, patients: int) -> Band:
    low, high = np.array([interval(column, patients) for column in drawn[1:].T]).T
    return Band(x, drawn[0], low, high)
