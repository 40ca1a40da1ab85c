"""Whether probabilities are as often right as they say, and how to make them so.

What corrects them is fitted on validation examples, never on those that are tested.
"""

import dataclasses

import numpy as np
import scipy.optimize
import scipy.special

from clef_jax.evaluate.metrics.classification import ECE_BINS

# Probabilities of 0 and 1 have no log odds.
_LEAST = 1e-7
_TEMPERATURES = (0.05, 20.0)


@dataclasses.dataclass(frozen=True)
class Reliability:
    """What came of the probabilities in each bin, of those bins that hold any.

    Attributes:
        predicted: `[bins]`, the mean probability.
        observed: `[bins]`, the share of positives.
        count: `[bins]`, examples.
    """

    predicted: np.ndarray
    observed: np.ndarray
    count: np.ndarray


def reliability_curve(
    target: np.ndarray, probability: np.ndarray, bins: int = ECE_BINS
) -> Reliability:
    """Returns the reliability over bins of equal mass, those of `metrics.ece`.

    Args:
        target: `[n]`, 1 and 0.
        probability: `[n]`, of 1. Equal ones share a bin.
        bins: At most so many.
    """
    _, group, sizes = np.unique(probability, return_inverse=True, return_counts=True)
    middle = np.cumsum(sizes) - sizes / 2
    edges = np.arange(1, bins) / bins * len(probability)
    of_group = np.searchsorted(edges, middle, side="right")
    _, code, count = np.unique(of_group[group], return_inverse=True, return_counts=True)
    return Reliability(
        predicted=np.bincount(code, probability) / count,
        observed=np.bincount(code, target) / count,
        count=count,
    )


@dataclasses.dataclass(frozen=True)
class Temperature:
    """Log odds divided by one number: their order stays, and so does an even chance.

    Attributes:
        value: Above 1 where probabilities were too sure.
    """

    value: float

    def __call__(self, probability: np.ndarray) -> np.ndarray:
        """Returns corrected probabilities, of any shape."""
        return scipy.special.expit(_log_odds(probability) / self.value)


def fit_temperature(target: np.ndarray, probability: np.ndarray) -> Temperature:
    """Returns the temperature of the least log loss (Guo et al., ICML 2017), from 0.05 to 20.

    Args:
        target: `[n]`, 1 and 0, of validation examples.
        probability: `[n]`.

    Returns:
        A temperature of 1 where there is one class only.
    """
    if not 0 < np.sum(target) < len(target):
        return Temperature(1.0)
    odds = np.where(target > 0, 1, -1) * _log_odds(probability)

    def loss(log_temperature: float) -> float:
        return -np.mean(scipy.special.log_expit(odds / np.exp(log_temperature)))

    found = scipy.optimize.minimize_scalar(
        loss, bounds=np.log(_TEMPERATURES), method="bounded", options={"xatol": 1e-6}
    )
    return Temperature(float(np.exp(found.x)))


def _log_odds(probability: np.ndarray) -> np.ndarray:
    return scipy.special.logit(np.clip(probability, _LEAST, 1 - _LEAST))
