"""Figures of regression against scikit-learn's and SciPy's."""

import numpy as np
import pytest
import scipy.stats
from sklearn import metrics as oracle

from clef_jax.evaluate import metrics


@pytest.mark.parametrize("seed", range(30))
def test_figures_are_those_of_the_libraries(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(5, 200))
    target = rng.normal(120, 15, n)
    predicted = (target + rng.normal(2, 10, n), np.full(n, 120.0))[seed % 5 == 4]
    if seed % 2:
        target, predicted = np.round(target, -1), np.round(predicted, -1)
    counts = rng.multinomial(n, np.full(n, 1 / n), 3)
    figures = metrics.regression_figures(counts.astype(float), target, predicted)
    assert tuple(figures) == metrics.REGRESSION
    for row, counted in enumerate(counts):
        y, p = np.repeat(target, counted), np.repeat(predicted, counted)
        spread = 1.96 * np.std(p - y, ddof=1)
        exact = {
            "mae": oracle.mean_absolute_error(target, predicted, sample_weight=counted),
            "rmse": oracle.root_mean_squared_error(target, predicted, sample_weight=counted),
            "bias": np.mean(p - y),
            "loa_low": np.mean(p - y) - spread,
            "loa_high": np.mean(p - y) + spread,
        }
        if np.ptp(y):
            exact["r2"] = oracle.r2_score(target, predicted, sample_weight=counted)
        if np.ptp(y) and np.ptp(p):
            exact["spearman"] = scipy.stats.spearmanr(y, p).statistic
        for name in metrics.REGRESSION:
            expected = exact.get(name, np.nan)
            found = figures[name][row]
            assert found == pytest.approx(expected, rel=1e-12, abs=1e-12, nan_ok=True), name
    weights = rng.random((1, n))
    weighted = metrics.regression_figures(weights, target, predicted)
    expected = oracle.mean_absolute_error(target, predicted, sample_weight=weights[0])
    assert weighted["mae"] == pytest.approx(expected, rel=1e-12)
    assert metrics.rmse(weights, target, predicted) == pytest.approx(
        oracle.root_mean_squared_error(target, predicted, sample_weight=weights[0]), rel=1e-12
    )


def test_a_draw_without_rows_is_no_number():
    figures = metrics.regression_figures(np.zeros((1, 5)), np.arange(5.0), np.arange(5.0)[::-1])
    assert all(np.isnan(figure).all() for figure in figures.values())


def test_what_does_not_vary_has_no_correlation_nor_explained_variance():
    weights = np.random.default_rng(0).random((3, 20))
    figures = metrics.regression_figures(weights, np.full(20, 0.1), np.arange(20.0))
    assert np.isnan(figures["r2"]).all() and np.isnan(figures["spearman"]).all()
    figures = metrics.regression_figures(weights, np.arange(20.0), np.full(20, 0.1))
    assert np.isnan(figures["spearman"]).all() and np.isfinite(figures["r2"]).all()
