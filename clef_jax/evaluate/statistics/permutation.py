"""Whether two models differ: their predictions swapped for patients at random.

If it made no difference which of two models a prediction came from, a difference as large as the
observed one would come about as often when they are swapped, for all records of a patient at once.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import scipy.stats

from clef_jax.evaluate.metrics import brier, mae, ranking_figures, rmse
from clef_jax.evaluate.statistics.predictions import Scored

_CLASSIFICATION = ("auroc", "auprc", "brier")
COMPARED: dict[str, tuple[str, ...]] = {
    "multilabel": _CLASSIFICATION,
    "multiclass": _CLASSIFICATION,
    "binary": _CLASSIFICATION,
    "regression": ("mae", "rmse"),
}

# Permutations of which all swaps are held at once.
_AT_ONCE = 1000
# Weights at once, so that they stay in a processor's cache: 2 MB.
_WEIGHTS = 2**18

_Training = TypeVar("_Training")
# (weights [draws, n], target [n], prediction [n]) -> figures, each [draws]
_Figures = Callable[[np.ndarray, np.ndarray, np.ndarray], dict[str, np.ndarray]]


def differences(
    kind: str, target: np.ndarray, first: np.ndarray, second: np.ndarray, swaps: np.ndarray
) -> np.ndarray:
    """Returns what a model's figures have over another's when predictions are swapped.

    Args:
        kind: Of the task.
        target: `[n]`.
        first: `[n]`, predictions of one model.
        second: `[n]`, of the other.
        swaps: bool `[draws, n]`, which predictions are swapped; none for what is observed.

    Returns:
        `[draws, metrics]`, in the order of `COMPARED`.
    """
    if kind == "regression":
        found = _swapped(_errors, target, first, second, swaps)
    else:
        # Models may say the same in scales of their own: their ranks can be swapped, their scores
        # cannot (Venkatraman and Begg, Biometrika 1996).
        first_ranks, second_ranks = map(scipy.stats.rankdata, (first, second))
        found = _swapped(ranking_figures, target, first_ranks, second_ranks, swaps)
        found |= _swapped(_brier, target, first, second, swaps)
    return np.stack([found[name] for name in COMPARED[kind]], axis=1)


def _errors(weights: np.ndarray, target: np.ndarray, predicted: np.ndarray):
    return {"mae": mae(weights, target, predicted), "rmse": rmse(weights, target, predicted)}


def _brier(weights: np.ndarray, target: np.ndarray, probability: np.ndarray):
    return {"brier": brier(weights, target, probability)}


def _swapped(
    figures: _Figures,
    target: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    swaps: np.ndarray,
) -> dict[str, np.ndarray]:
    # Both models' predictions stand in one list, of which a draw counts one of each row: so they
    # are sorted once for all draws.
    targets, predictions = np.tile(target, 2), np.append(first, second)
    at_once = max(1, _WEIGHTS // len(targets))
    parts = []
    for start in range(0, len(swaps), at_once):
        swapped = swaps[start : start + at_once].astype(np.float64)
        kept = 1 - swapped
        of_first = figures(np.hstack([kept, swapped]), targets, predictions)
        of_second = figures(np.hstack([swapped, kept]), targets, predictions)
        parts.append({name: of_first[name] - of_second[name] for name in of_first})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def paired(
    first: Sequence[_Training], second: Sequence[_Training]
) -> list[tuple[_Training, _Training]]:
    """Returns pairs of two models' trainings, each training as often as its fellows."""
    count = int(np.lcm(len(first), len(second)))
    return [(first[k % len(first)], second[k % len(second)]) for k in range(count)]


def p_values(
    pairs: Sequence[tuple[Scored, Scored]],
    columns: Sequence[int],
    codes: np.ndarray,
    tested: np.ndarray,
    permutations: int,
    seed: int,
) -> np.ndarray:
    """Returns two-sided p-values `[metrics, 1 + columns]`, of the mean over columns first.

    Where no permutation differs as much as what is observed, p is below what their number can say,
    and Holm's correction for many tests asks how far. A mean of patients' differences with random
    signs is z standard deviations from 0 with a probability of at most 2 exp(-z² / 2) (Hoeffding,
    JASA 1963), whatever the differences; Brier score and MAE are such means, areas nearly. Where
    that bound, with the permutations' own deviation, is the lower one, it is p.

    Args:
        pairs: Trainings of two models.
        columns: Labels that both are scored on.
        codes: Each example's patient, from 0.
        tested: bool `[1 + columns]`; NaN is returned for the others.
        permutations: How many.
        seed: Seed.
    """
    patients = codes.max() + 1
    unswapped = np.zeros((1, patients), dtype=np.bool_)
    observed = np.abs(_mean_differences(pairs, columns, codes, unswapped)[0])
    as_far, squared = np.zeros(observed.shape), np.zeros(observed.shape)
    rng = np.random.default_rng(seed)
    for start in range(0, permutations, _AT_ONCE):
        count = min(_AT_ONCE, permutations - start)
        swaps = rng.integers(0, 2, (count, patients), dtype=np.bool_)
        found = np.abs(_mean_differences(pairs, columns, codes, swaps))
        # Differences of equal models differ from 0 by rounding.
        as_far += np.sum(found >= observed - 1e-12, axis=0)
        squared += np.sum(found**2, axis=0)
    p = (as_far + 1) / (permutations + 1)
    z_squared = observed**2 * permutations / np.maximum(squared, 1e-300)
    beyond = np.minimum(p, 2 * np.exp(-z_squared / 2))
    return np.where(tested, np.where(as_far == 0, beyond, p), np.nan)


def _mean_differences(
    pairs: Sequence[tuple[Scored, Scored]],
    columns: Sequence[int],
    codes: np.ndarray,
    swaps: np.ndarray,
) -> np.ndarray:
    """Returns mean differences of the pairs `[draws, metrics, 1 + columns]`."""
    of_labels = []
    for column in columns:
        known = np.isfinite(pairs[0][0].target[:, column])
        swapped = swaps[:, codes[known]]
        found = [
            differences(
                first.kind,
                first.target[known, column],
                first.score[known, column],
                second.score[known, column],
                swapped,
            )
            for first, second in pairs
        ]
        of_labels.append(np.mean(found, axis=0))
    stacked = np.stack(of_labels, axis=2)
    return np.concatenate([stacked.mean(axis=2, keepdims=True), stacked], axis=2)
