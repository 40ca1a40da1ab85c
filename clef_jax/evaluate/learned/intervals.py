"""Figures with 95 % intervals: the tested patients are drawn again and again, with replacement."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

_DRAWS = 1000
_LEVELS = (0.025, 0.975)


class Estimate(NamedTuple):
    """A figure and the bounds of its 95 % interval."""

    value: float
    low: float
    high: float


# (weights [draws, n], target [n], prediction [n]) -> figure of each draw [draws]
Metric = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def r2(weights: np.ndarray, y: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Returns R² `[draws]` of predictions `[n]`, patients counted `weights [draws, n]` times."""
    mean = weights @ y / weights.sum(axis=1)
    total = weights @ y**2 - mean**2 * weights.sum(axis=1)
    return 1 - weights @ (y - predicted) ** 2 / np.maximum(total, 1e-30)


def share(weights: np.ndarray, _: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Returns the weighted mean `[draws]` of hits `[n]`, whatever the target."""
    return weights @ found / weights.sum(axis=1)


def estimate(
    metric: Metric,
    y: np.ndarray,
    predictions: Mapping[str, Sequence[np.ndarray]],
    *,
    of: str,
    seed: int,
) -> tuple[dict[str, Estimate], dict[str, Estimate]]:
    """Computes a figure of several representations on the same patients, and what one gains.

    Every representation is judged on the same draws, so that the interval of a difference is that
    of the paired difference, which is narrower than the two intervals suggest. A draw is one of the
    tested patients and, where there are several, one of the probes.

    Args:
        metric: `r2`, `share` or `evaluate.metrics.auroc`.
        y: Targets `[n]`, a row a patient.
        predictions: By representation, predictions `[n]` of several probes, whose figures are
            averaged.
        of: The representation whose gain over each other one is wanted.
        seed: Seed of the draws.

    Returns:
        The figure of each representation, and the gain of `of` over each other.
    """
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(len(y), np.full(len(y), 1 / len(y)), _DRAWS).astype(float)
    figures = {}
    for name, several in predictions.items():
        # The first entry is the figure of the sample itself.
        parts = np.array_split(draws, len(several))
        of_probes = [
            metric(np.vstack([np.ones(len(y)), part]), y, predicted)
            for part, predicted in zip(parts, several, strict=True)
        ]
        itself = np.mean([figure[0] for figure in of_probes])
        figures[name] = np.concatenate([[itself], *(figure[1:] for figure in of_probes)])
    gains = {name: figures[of] - figure for name, figure in figures.items() if name != of}
    return (
        {name: _interval(figure) for name, figure in figures.items()},
        {name: _interval(gain) for name, gain in gains.items()},
    )


def _interval(figure):
    low, high = np.nanquantile(figure[1:], _LEVELS)
    return Estimate(float(figure[0]), float(low), float(high))
