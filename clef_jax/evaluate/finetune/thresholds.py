"""Where positives begin, chosen on validation alone."""

from collections.abc import Callable

import numpy as np

from clef_jax.evaluate.finetune.options import Options


def youden_threshold(scores: np.ndarray, labels: np.ndarray) -> float:
    """Returns the score from which on examples count as positive, by Youden's index.

    That is the sum of sensitivity and specificity, at its highest; of several such scores it is
    the highest. NaN where the known labels are all alike.

    Args:
        scores: `[n]`, the higher the likelier.
        labels: `[n]`, 0, 1 or NaN.
    """

    def best(sensitivity: np.ndarray, specificity: np.ndarray) -> int:
        return int(np.argmax(sensitivity + specificity))

    return _threshold(scores, labels, best)


def sensitive_threshold(scores: np.ndarray, labels: np.ndarray, sensitivity: float) -> float:
    """Returns the highest score from which on that share of the positives is found.

    Arguments, and when it is NaN, are as of `youden_threshold`.
    """

    def first(found: np.ndarray, _: np.ndarray) -> int:
        # Shares are quotients: one that is meant is reached whatever its last bit.
        return int(np.argmax(found >= sensitivity - 1e-12))

    return _threshold(scores, labels, first)


def choose_thresholds(
    scores: np.ndarray, labels: np.ndarray, options: Options
) -> tuple[float, ...]:
    """Returns a threshold for each column of scores `[n, L]` and labels `[n, L]` of validation."""
    columns = zip(scores.T, labels.T, strict=True)
    if options.threshold == "youden":
        return tuple(youden_threshold(score, label) for score, label in columns)
    return tuple(sensitive_threshold(s, label, options.sensitivity) for s, label in columns)


def _threshold(
    scores: np.ndarray, labels: np.ndarray, choose: Callable[[np.ndarray, np.ndarray], int]
) -> float:
    known = np.isfinite(labels) & np.isfinite(scores)
    scores, positive = scores[known], labels[known] == 1
    if positive.all() or not positive.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    scores, positive = scores[order], positive[order]
    # Whoever has the same score is on the same side.
    last_of_score = np.r_[scores[1:] != scores[:-1], True]
    found = np.cumsum(positive)[last_of_score] / positive.sum()
    spared = 1 - np.cumsum(~positive)[last_of_score] / (~positive).sum()
    return float(scores[last_of_score][choose(found, spared)])
