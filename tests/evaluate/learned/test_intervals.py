"""Figures and their intervals against scikit-learn and against chance itself."""

import numpy as np
import pytest
from sklearn.metrics import r2_score, roc_auc_score

from clef_jax.evaluate.learned import intervals
from clef_jax.evaluate.metrics import auroc


def test_weighted_figures_are_scikit_learns():
    rng = np.random.default_rng(0)
    weights = rng.multinomial(60, np.full(60, 1 / 60), 7).astype(float)
    y, predicted = rng.normal(size=(2, 60))
    ill, score = (y > 0.3).astype(float), np.round(predicted, 1)  # With ties.
    for row, r2, auc in zip(
        weights,
        intervals.r2(weights, y, predicted),
        auroc(weights, ill, score),
        strict=True,
    ):
        assert r2 == pytest.approx(r2_score(y, predicted, sample_weight=row))
        assert auc == pytest.approx(roc_auc_score(ill, score, sample_weight=row))


def test_a_draw_of_one_class_has_no_auc():
    assert np.isnan(auroc(np.array([[1.0, 1.0, 0.0]]), np.array([1, 1, 0]), np.arange(3.0)))


def test_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(1)
    held = 0
    for seed in range(200):
        hits = (rng.random(150) < 0.3).astype(float)
        figures, _ = intervals.estimate(
            intervals.share, np.ones(150), {"a": [hits]}, of="a", seed=seed
        )
        assert figures["a"].value == pytest.approx(hits.mean())
        held += figures["a"].low <= 0.3 <= figures["a"].high
    assert 0.9 < held / 200 < 0.99


def test_gains_are_paired():
    rng = np.random.default_rng(2)
    y = rng.normal(size=400)
    noisy = y + rng.normal(size=400)
    figures, gains = intervals.estimate(
        intervals.r2, y, {"a": [noisy], "same": [noisy], "worse": [1.05 * noisy]}, of="a", seed=0
    )
    assert gains["same"] == (0, 0, 0)
    assert gains["worse"].value == pytest.approx(figures["a"].value - figures["worse"].value)
    # Far narrower than either figure's own interval.
    assert gains["worse"].low > 0
    assert gains["worse"].high - gains["worse"].low < figures["a"].high - figures["a"].low


def test_intervals_include_the_choice_of_labels():
    rng = np.random.default_rng(3)
    y = rng.normal(size=2000)
    probes = [y + size * rng.normal(size=2000) for size in (0.1, 0.3, 0.5, 0.7)]
    alone, _ = intervals.estimate(intervals.r2, y, {"a": probes[:1]}, of="a", seed=0)
    several, _ = intervals.estimate(intervals.r2, y, {"a": probes}, of="a", seed=0)
    single = [intervals.r2(np.ones((1, 2000)), y, probe)[0] for probe in probes]
    assert several["a"].value == pytest.approx(np.mean(single))
    assert several["a"].high - several["a"].low > 5 * (alone["a"].high - alone["a"].low)
