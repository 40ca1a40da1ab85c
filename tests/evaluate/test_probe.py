"""The demo's figures against independent computations."""

import numpy as np
import pytest

from clef_jax.evaluate.probe import retrieval_at_1, ridge_r2


def test_retrieval_counts_nearest_partners_by_angle():
    first = np.array([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.1]])
    second = np.array([[9.0, 1.0], [5.0, 0.0], [-1.0, 0.0]])  # The second one looks like the first.
    assert retrieval_at_1(first, second) == pytest.approx(1 / 3)
    assert retrieval_at_1(first, 7 * first) == 1


def test_ridge_reads_a_linear_target_and_not_noise():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(600, 20)) * rng.uniform(0.1, 10, 20) + 5
    y = z @ rng.normal(size=20) + rng.normal(size=600)
    noise = rng.normal(size=600)
    assert ridge_r2(z[:400], y[:400], z[400:], y[400:]) > 0.95
    assert abs(ridge_r2(z[:400], noise[:400], z[400:], noise[400:])) < 0.1


def test_unknown_targets_are_left_out():
    rng = np.random.default_rng(1)
    z = rng.normal(size=(100, 3))
    y = z[:, 0].copy()
    expected = ridge_r2(z[5:60], y[5:60], z[60:95], y[60:95])
    y[:5] = y[95:] = np.nan
    assert ridge_r2(z[:60], y[:60], z[60:], y[60:]) == pytest.approx(expected)
    assert np.isnan(ridge_r2(z[:60], np.full(60, np.nan), z[60:], y[60:]))
