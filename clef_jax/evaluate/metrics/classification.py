"""How well scores or probabilities tell 1 from 0."""

from typing import NamedTuple

import numpy as np

from clef_jax.evaluate.metrics.sums import group_ends, mean, ratio

CLASSIFICATION = (
    "auroc",
    "auprc",
    "brier",
    "ece",
    "sensitivity_at_90_specificity",
    "accuracy",
    "f1",
)
ECE_BINS = 15

_SPECIFICITY = 0.9


def classification_figures(
    weights: np.ndarray, target: np.ndarray, probability: np.ndarray, decision: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns all of `CLASSIFICATION`, each `[draws]`; NaN for draws that lack what it is about.

    Sensitivity is the highest of a threshold with a specificity of 90 % or more.

    Args:
        weights: `[draws, n]`, none below 0.
        target: `[n]`, 1 and 0.
        probability: `[n]`, of 1.
        decision: `[n]`, 1 where the label is held to be present, else 0.
    """
    above = _above(weights, target, probability)
    return {
        "auroc": _auroc(above),
        "auprc": _auprc(above),
        "brier": brier(weights, target, probability),
        "ece": ece(weights, target, probability),
        "sensitivity_at_90_specificity": _sensitivity(above),
        "accuracy": mean(weights, decision == target),
        "f1": ratio(2 * (weights @ (target * decision)), weights @ (target + decision)),
    }


def auroc(weights: np.ndarray, target: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Returns the area under the ROC curve `[draws]`; a pair of equal scores counts half.

    Args:
        weights: `[draws, n]`, none below 0.
        target: `[n]`, 1 and 0.
        score: `[n]`, higher for 1.

    Returns:
        NaN for draws of one class.
    """
    return _auroc(_above(weights, target, score))


def auprc(weights: np.ndarray, target: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Returns the average precision `[draws]`, NaN for draws without positives.

    It is the mean over the positives of the precision at their threshold, nothing interpolated.
    Arguments are those of `auroc`.
    """
    return _auprc(_above(weights, target, score))


def ranking_figures(
    weights: np.ndarray, target: np.ndarray, score: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns auroc and auprc, which only the scores' order matters to, sorting them once."""
    above = _above(weights, target, score)
    return {"auroc": _auroc(above), "auprc": _auprc(above)}


def brier(weights: np.ndarray, target: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Returns the weighted mean `[draws]` of (probability - target)²."""
    return mean(weights, (probability - target) ** 2)


def ece(
    weights: np.ndarray, target: np.ndarray, probability: np.ndarray, bins: int = ECE_BINS
) -> np.ndarray:
    """Returns the expected calibration error `[draws]` over bins of equal mass.

    Each draw has bins of its own, a `bins`-th of its weight in each. Equal probabilities stay
    together, in the bin that the middle of their weight falls into.
    """
    order = np.argsort(probability, kind="stable")
    weights, probability = weights[:, order], probability[order]
    counted, excess = _cumulated(weights), _cumulated(weights * (probability - target[order]))
    stops = np.append(0, group_ends(probability) + 1)
    if len(stops) <= len(order):
        counted, excess = counted[:, stops], excess[:, stops]
    twice_middle = counted[:, 1:] + counted[:, :-1]
    total = counted[:, -1]
    inner = 2 * np.arange(1, bins) / bins
    found = [row.searchsorted(inner * mass) for row, mass in zip(twice_middle, total, strict=True)]
    edges = np.pad(np.array(found), ((0, 0), (1, 1)), constant_values=(0, len(stops) - 1))
    of_bins = np.diff(np.take_along_axis(excess, edges, axis=1), axis=1)
    return ratio(np.abs(of_bins).sum(axis=1), total)


def youden_threshold(target: np.ndarray, score: np.ndarray) -> float:
    """Returns the score from which on to say 1, for the highest sensitivity + specificity.

    Args:
        target: `[n]`, 1 and 0, of rows that are not those to be tested.
        score: `[n]`.

    Returns:
        The highest such score, or 0.5 where there is only one class to choose by.
    """
    if not 0 < np.sum(target) < len(target):
        return 0.5
    scores = np.sort(np.unique(score[target > 0]))[::-1]
    above = _above(np.ones((1, len(target))), target, score)
    found = above.positives[0] / above.all_positives[0]
    false = above.negatives[0] / above.all_negatives[0]
    return float(scores[np.argmax(found - false)])


class _Above(NamedTuple):
    """Weights at and above each score that a positive has, from the highest score down.

    Attributes:
        positives: `[draws, scores]`.
        negatives: `[draws, scores]`.
        tied: `[draws, scores]`, weight of the negatives of exactly that score.
        all_positives: `[draws]`.
        all_negatives: `[draws]`.
    """

    positives: np.ndarray
    negatives: np.ndarray
    tied: np.ndarray
    all_positives: np.ndarray
    all_negatives: np.ndarray


def _above(weights: np.ndarray, target: np.ndarray, score: np.ndarray) -> _Above:
    order = np.argsort(-score, kind="stable")
    positive = target[order] > 0
    # With a column of zeros in front, so that column k holds the weight of the first k rows.
    counted = _cumulated(weights[:, order])
    positives = _cumulated(weights[:, order[positive]])
    positives_until = np.append(0, np.cumsum(positive))
    stop = group_ends(score[order]) + 1
    start = np.append(0, stop[:-1])
    has_positive = positives_until[stop] > positives_until[start]
    start, stop = start[has_positive], stop[has_positive]
    found, found_before = positives[:, positives_until[stop]], positives[:, positives_until[start]]
    false = counted[:, stop] - found
    return _Above(
        positives=found,
        negatives=false,
        tied=false - (counted[:, start] - found_before),
        all_positives=positives[:, -1],
        all_negatives=counted[:, -1] - positives[:, -1],
    )


def _cumulated(weights: np.ndarray) -> np.ndarray:
    cumulated = np.zeros((len(weights), weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=cumulated[:, 1:])
    return cumulated


def _added(above: _Above) -> np.ndarray:
    return np.diff(above.positives, axis=1, prepend=0)


def _auroc(above: _Above) -> np.ndarray:
    beaten = above.all_negatives[:, None] - above.negatives + above.tied / 2
    won = np.sum(_added(above) * beaten, axis=1)
    return ratio(won, above.all_positives * above.all_negatives)


def _auprc(above: _Above) -> np.ndarray:
    said = above.positives + above.negatives
    precision = np.divide(above.positives, said, out=np.zeros_like(said), where=said > 0)
    return ratio(np.sum(_added(above) * precision, axis=1), above.all_positives)


def _sensitivity(above: _Above) -> np.ndarray:
    # Sums of weights that are no whole numbers are exact to rounding only.
    allowed = (1 - _SPECIFICITY) * above.all_negatives * (1 + 1e-12)
    found = np.where(above.negatives <= allowed[:, None], above.positives, 0)
    sensitivity = ratio(np.max(found, axis=1, initial=0), above.all_positives)
    return np.where(above.all_negatives > 0, sensitivity, np.nan)
