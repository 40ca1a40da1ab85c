"""Thresholds against scikit-learn's ROC curve."""

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from clef_jax.evaluate.finetune import Options
from clef_jax.evaluate.finetune.thresholds import (
    choose_thresholds,
    sensitive_threshold,
    youden_threshold,
)


def drawn(seed, rows=60):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, rows).astype(float)
    # Rounded, for ties.
    return np.round(labels * 0.5 + rng.normal(size=rows), 1), labels


def rates(scores, labels, threshold):
    said = scores >= threshold
    return said[labels == 1].mean(), said[labels == 0].mean()


@pytest.mark.parametrize("seed", range(20))
def test_thresholds_are_those_of_the_roc_curve(seed):
    scores, labels = drawn(seed)
    false, true, _ = roc_curve(labels, scores, drop_intermediate=False)
    found, alarms = rates(scores, labels, youden_threshold(scores, labels))
    assert found - alarms == pytest.approx((true - false).max())
    for wanted in (0.5, 0.9, 1.0):
        found, alarms = rates(scores, labels, sensitive_threshold(scores, labels, wanted))
        assert found >= wanted - 1e-12
        assert alarms == pytest.approx(false[true >= wanted - 1e-12].min())


def test_what_is_not_known_does_not_count_and_what_cannot_be_told_is_nan():
    scores, labels = drawn(0)
    masked = np.append(labels, [np.nan] * 5), np.append(scores, [9.0] * 5)
    assert youden_threshold(masked[1], masked[0]) == youden_threshold(scores, labels)
    assert np.isnan(youden_threshold(scores, np.ones_like(labels)))
    columns = np.stack([scores, scores], axis=1), np.stack([labels, labels * 0], axis=1)
    first, second = choose_thresholds(*columns, Options(threshold="sensitivity", sensitivity=0.8))
    assert first == sensitive_threshold(scores, labels, 0.8) and np.isnan(second)
