"""Calibration against scikit-learn's curves and fits."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from clef_jax.evaluate import metrics
from clef_jax.evaluate.metrics.calibration import fit_temperature, reliability_curve


def too_sure(seed, n=3000, temperature=2.5):
    """Returns targets and probabilities whose log odds are `temperature` times too large."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(0, 1.5, n)
    target = (rng.random(n) < 1 / (1 + np.exp(-odds))).astype(float)
    return target, 1 / (1 + np.exp(-temperature * odds))


def test_reliability_is_scikit_learns():
    target, probability = too_sure(0)
    curve = reliability_curve(target, probability, 15)
    observed, predicted = calibration_curve(target, probability, n_bins=15, strategy="quantile")
    assert curve.predicted == pytest.approx(predicted) and curve.observed == pytest.approx(observed)
    assert (curve.count == 200).all()


def test_reliability_and_calibration_error_share_their_bins():
    for seed, digits in ((1, 1), (2, 2), (3, 6)):
        target, probability = too_sure(seed, n=500)
        probability = np.round(probability, digits)
        curve = reliability_curve(target, probability)
        assert curve.count.sum() == 500 and (np.diff(curve.predicted) > 0).all()
        error = np.sum(curve.count * np.abs(curve.predicted - curve.observed)) / 500
        assert metrics.ece(np.ones((1, 500)), target, probability) == pytest.approx(error)
    constant = reliability_curve(target, np.full(500, 0.3))
    assert constant.predicted == pytest.approx(0.3) and constant.observed == target.mean()


def test_temperature_is_that_of_a_logistic_regression_without_intercept():
    target, probability = too_sure(4)
    odds = np.log(probability / (1 - probability))[:, None]
    fitted = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(odds, target)
    temperature = fit_temperature(target, probability)
    assert temperature.value == pytest.approx(1 / fitted.coef_[0, 0], rel=1e-4)
    assert temperature.value == pytest.approx(2.5, rel=0.1)
    other, unseen = too_sure(5)
    assert log_loss(other, temperature(unseen)) < log_loss(other, unseen) - 0.05
    assert (np.argsort(temperature(unseen)) == np.argsort(unseen)).all()


def test_temperature_of_one_class_or_certainty_stays_finite():
    assert fit_temperature(np.ones(5), np.full(5, 0.7)).value == 1
    target = np.array([0.0, 1.0, 1.0, 0.0])
    corrected = fit_temperature(target, np.array([0.0, 1.0, 0.0, 1.0]))(np.array([0.0, 0.5, 1.0]))
    assert np.isfinite(corrected).all() and corrected[1] == 0.5
