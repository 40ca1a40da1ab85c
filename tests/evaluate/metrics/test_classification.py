"""Figures of classification against scikit-learn's, which count weighted rows in their own way."""

import numpy as np
import pytest
from sklearn import metrics as oracle

from clef_jax.evaluate import metrics


def cases():
    """Yields targets, scores and weights `[4, n]`: smooth, tied, constant; whole or not."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(5, 300))
        target = (rng.random(n) < rng.choice([0.02, 0.3, 0.5, 0.95])).astype(float)
        target[:2] = 0, 1
        score = rng.random(n) * 0.8 + 0.1 * target
        score = (score, np.round(score, 1), np.full(n, 0.25))[seed % 3]
        counts = rng.multinomial(n, np.full(n, 1 / n), 2)
        weights = np.vstack([np.ones(n), rng.random(n), counts]).astype(float)
        yield pytest.param(target, score, weights, id=f"{seed}")


@pytest.mark.parametrize(("target", "score", "weights"), list(cases()))
def test_figures_are_scikit_learns(target, score, weights):
    decision = (score >= 0.5).astype(float)
    figures = metrics.classification_figures(weights, target, score, decision)
    assert tuple(figures) == metrics.CLASSIFICATION
    for row, counted in enumerate(weights):
        found = {name: figure[row] for name, figure in figures.items()}
        arguments = {"sample_weight": counted}
        exact = {
            "brier": oracle.brier_score_loss(target, score, **arguments),
            "accuracy": oracle.accuracy_score(target, decision, **arguments),
        }
        if counted @ target:
            exact["auprc"] = oracle.average_precision_score(target, score, **arguments)
            exact["f1"] = oracle.f1_score(target, decision, zero_division=0, **arguments)
        if counted @ target and counted @ (1 - target):
            exact["auroc"] = oracle.roc_auc_score(target, score, **arguments)
            false, true, _ = oracle.roc_curve(
                target, score, drop_intermediate=False, sample_weight=counted
            )
            exact["sensitivity_at_90_specificity"] = true[false <= 0.1 + 1e-12].max()
        for name, expected in exact.items():
            assert found[name] == pytest.approx(expected, abs=1e-12, rel=1e-12), name
        for name in ("auroc", "auprc", "brier"):
            alone = getattr(metrics, name)(weights[[row]], target, score)[0]
            assert alone == pytest.approx(found[name], nan_ok=True, abs=1e-15)


@pytest.mark.parametrize(("target", "score", "weights"), list(cases()))
def test_a_weight_of_two_is_two_rows(target, score, weights):
    decision = (score >= 0.5).astype(float)
    counted = weights[2].astype(int)
    figures = metrics.classification_figures(weights[[2]], target, score, decision)
    repeated = [np.repeat(values, counted) for values in (target, score, decision)]
    of_repeated = metrics.classification_figures(np.ones((1, counted.sum())), *repeated)
    for name, figure in figures.items():
        assert figure == pytest.approx(of_repeated[name], abs=1e-12, nan_ok=True), name


def binned_error(target, probability, bins):
    """The calibration error of rows of weight 1, bin by bin, in plain Python."""
    n = len(target)
    sums = [0.0] * bins
    for value in set(probability):
        tied = probability == value
        middle = np.sum(probability < value) + tied.sum() / 2
        sums[min(int(middle * bins / n + 1e-9), bins - 1)] += np.sum((probability - target)[tied])
    return sum(map(abs, sums)) / n


@pytest.mark.parametrize(("target", "score", "weights"), list(cases()))
def test_calibration_error_is_that_of_equal_bins(target, score, weights):
    for bins in (1, 4, 15):
        found = metrics.ece(np.ones((1, len(target))), target, score, bins)
        assert found == pytest.approx(binned_error(target, score, bins), abs=1e-12)


def test_calibration_error_of_what_is_known():
    n = 3000
    probability = np.linspace(0, 1, n)
    always = metrics.ece(np.ones((1, n)), np.ones(n), probability)
    assert always == pytest.approx(np.mean(1 - probability))
    target = (np.random.default_rng(0).random(n) < probability).astype(float)
    assert metrics.ece(np.ones((1, n)), target, probability) < 0.04
    assert metrics.ece(np.ones((1, n)), target, np.full(n, target.mean())) < 1e-12


def test_what_a_draw_lacks_is_no_number():
    target, score = np.array([1.0, 1.0, 0.0]), np.array([0.9, 0.4, 0.4])
    weights = np.array([[1.0, 1, 0], [0, 0, 1], [1, 0, 1], [0, 0, 0]])
    figures = metrics.classification_figures(weights, target, score, np.zeros(3))
    assert np.isnan(figures["auroc"]).tolist() == [True, True, False, True]
    assert np.isnan(figures["auprc"]).tolist() == [False, True, False, True]
    assert np.isnan(figures["sensitivity_at_90_specificity"]).tolist() == [True, True, False, True]
    assert np.isnan(figures["f1"]).tolist() == [False, True, False, True]
    assert np.isnan(figures["ece"]).tolist() == [False, False, False, True]


def test_exactly_ninety_percent_specificity_is_enough():
    target = np.append(np.ones(2), np.zeros(10))
    score = np.append([0.9, 0.5], np.append(0.7, np.zeros(9)))
    figures = metrics.classification_figures(np.ones((1, 12)), target, score, target)
    assert figures["sensitivity_at_90_specificity"] == 1


def test_threshold_is_the_best_of_sensitivity_and_specificity():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        target = (rng.random(80) < 0.3).astype(float)
        score = np.round(rng.random(80) + 0.3 * target, seed % 3 + 1)
        threshold = metrics.youden_threshold(target, score)
        false, true, thresholds = oracle.roc_curve(target, score, drop_intermediate=False)
        assert threshold in thresholds
        reached = np.max(true - false)
        assert np.mean(score[target == 1] >= threshold) - np.mean(
            score[target == 0] >= threshold
        ) == pytest.approx(reached)
    assert metrics.youden_threshold(np.ones(4), np.arange(4.0)) == 0.5
