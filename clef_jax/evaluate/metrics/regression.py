"""How near predicted quantities are to the true ones."""

import numpy as np

from clef_jax.evaluate.metrics.sums import group_ends, mean, ratio

REGRESSION = ("mae", "rmse", "r2", "bias", "loa_low", "loa_high", "spearman")

# Standard deviations on either side of the bias that hold 95 % of a normal distribution.
_LIMITS_OF_AGREEMENT = 1.96


def regression_figures(
    weights: np.ndarray, target: np.ndarray, predicted: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns all of `REGRESSION`, each `[draws]`, in the target's unit where they have one.

    Bias is the mean of predicted - target; the limits of agreement lie 1.96 of its standard
    deviations on either side (Bland and Altman, Lancet 1986).

    Args:
        weights: `[draws, n]`, none below 0.
        target: `[n]`.
        predicted: `[n]`.

    Returns:
        NaN where a figure needs another row, or values that are not all the same.
    """
    total = weights.sum(axis=1)
    error = predicted - target
    bias = mean(weights, error)
    spread = _LIMITS_OF_AGREEMENT * np.sqrt(ratio(_scatter(weights, error), total - 1))
    return {
        "mae": mae(weights, target, predicted),
        "rmse": rmse(weights, target, predicted),
        "r2": 1 - ratio(weights @ error**2, _scatter(weights, target)),
        "bias": bias,
        "loa_low": bias - spread,
        "loa_high": bias + spread,
        "spearman": _correlation(weights, _ranks(weights, target), _ranks(weights, predicted)),
    }


def mae(weights: np.ndarray, target: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Returns the mean absolute error `[draws]`."""
    return mean(weights, np.abs(predicted - target))


def rmse(weights: np.ndarray, target: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Returns the root of the mean squared error `[draws]`."""
    return np.sqrt(mean(weights, (predicted - target) ** 2))


def _scatter(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Returns the sum of squares about the mean `[draws]`, exactly 0 where all are the same."""
    about = values - values.mean()
    squared = weights @ about**2
    scatter = squared - ratio((weights @ about) ** 2, weights.sum(axis=1))
    return np.where(scatter > 1e-12 * squared, scatter, 0)


def _ranks(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Returns ranks `[draws, n]` but for a constant; equal values share their mean rank."""
    order = np.argsort(values, kind="stable")
    ends = group_ends(values[order])
    counted = np.cumsum(weights[:, order], axis=1)[:, ends]
    middle = counted - np.diff(counted, axis=1, prepend=0) / 2
    group = np.empty(len(values), dtype=np.int64)
    group[order] = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=-1))
    return middle[:, group]


def _correlation(weights: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the weighted correlation `[draws]` of ranks `[draws, n]`; NaN where all are tied."""
    total = weights.sum(axis=1)
    a, b = (ranks / np.maximum(total, 1e-300)[:, None] for ranks in (a, b))
    a, b = (x - ratio(np.sum(weights * x, axis=1), total)[:, None] for x in (a, b))
    together, of_a, of_b = (np.sum(weights * x, axis=1) for x in (a * b, a * a, b * b))
    varied = np.minimum(of_a, of_b) > 1e-18 * total
    return ratio(together, np.where(varied, np.sqrt(of_a * of_b), 0))
