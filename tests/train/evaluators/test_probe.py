"""The quick probe, beside scikit-learn and known geometry."""

import numpy as np
import pytest

from clef_jax.train.evaluators.probe import (
    effective_rank,
    held_out_r2,
    read_by_probe,
    ridge_predictions,
)


@pytest.mark.parametrize(("n", "d"), [(80, 12), (40, 100)])
def test_ridge_is_that_of_scikit_learn(n, d):
    linear_model = pytest.importorskip("sklearn.linear_model")
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    rng = np.random.default_rng(n)
    z = rng.normal(size=(n + 30, d)) * rng.uniform(0.1, 9, d) + 3
    y = z @ rng.normal(size=d) + rng.normal(size=n + 30) * 20
    z[:, 0] = 5  # A unit that is always silent.
    scaler = preprocessing.StandardScaler().fit(z[:n])
    ridge = linear_model.RidgeCV(alphas=np.logspace(-2, 5, 29))
    expected = ridge.fit(scaler.transform(z[:n]), y[:n]).predict(scaler.transform(z[n:]))
    np.testing.assert_allclose(ridge_predictions(z[:n], y[:n], z[n:]), expected, rtol=1e-6)


def test_what_is_in_the_embedding_is_found_and_noise_is_not():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(200, 50))
    age = 60 + 10 * z[:, 3] - 5 * z[:, 7] + rng.normal(size=200)
    assert held_out_r2(z, age) > 0.95
    assert held_out_r2(z, rng.normal(size=200)) < 0.1


def test_unknown_values_are_left_out_and_too_few_give_no_figure():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(100, 8)).astype(np.float32)
    risk = np.exp(z[:, 0])
    age = np.full(100, np.nan, np.float32)
    age[:29] = 50 + z[:29, 1]
    risk[:5] = [np.nan, 0, np.inf, np.nan, 0]
    found = read_by_probe(z, age, risk)
    assert found.keys() == {"probe/effective_rank", "probe/risk_r2"}
    assert found["probe/risk_r2"] > 0.99
    assert "probe/age_r2" not in read_by_probe(z, np.full(100, 40.0), risk)


@pytest.mark.parametrize("directions", [1, 3, 8])
def test_effective_rank_counts_directions(directions):
    rng = np.random.default_rng(3)
    basis = np.linalg.qr(rng.normal(size=(32, 32)))[0][:directions]
    z = rng.normal(size=(20_000, directions)) @ basis + 100
    assert effective_rank(z) == pytest.approx(directions, rel=0.01)
    uneven = rng.normal(size=(20_000, 2)) * [1, 0.5] @ basis[:2] if directions > 1 else None
    if uneven is not None:
        shares = np.array([0.8, 0.2])
        expected = np.exp(-np.sum(shares * np.log(shares)))
        assert effective_rank(uneven) == pytest.approx(expected, rel=0.02)
