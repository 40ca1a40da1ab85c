"""The probes against independent computations."""

import numpy as np
from sklearn.metrics import r2_score, roc_auc_score

from clef_jax.evaluate.learned import probe


def test_retrieval_counts_nearest_partners_by_angle():
    first = np.array([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.1]])
    second = np.array([[9.0, 1.0], [5.0, 0.0], [-1.0, 0.0]])  # The second one looks like the first.
    assert probe.found_again(first, second).tolist() == [False, False, True]
    assert probe.found_again(first, 7 * first).all()
    assert not probe.found_again(np.zeros((3, 2)), np.zeros((3, 2)))[1:].any()


def test_ridge_reads_a_linear_target_and_not_noise():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(600, 20)) * rng.uniform(0.1, 10, 20) + 5
    y = z @ rng.normal(size=20) + rng.normal(size=600)
    noise = rng.normal(size=600)
    assert r2_score(y[400:], probe.ridge_predictions(z[:400], y[:400], z[400:])) > 0.95
    read = r2_score(noise[400:], probe.ridge_predictions(z[:400], noise[:400], z[400:]))
    assert abs(read) < 0.1


def test_logistic_regression_reads_a_linear_target_and_not_noise():
    rng = np.random.default_rng(1)
    z = rng.normal(size=(600, 20)) * rng.uniform(0.1, 10, 20) + 5
    direction = (z - 5) @ (rng.normal(size=20) / z.std(axis=0))
    y = (direction > 0).astype(float)
    coin = (rng.random(600) < 0.5).astype(float)
    assert roc_auc_score(y[400:], probe.logistic_scores(z[:400], y[:400], z[400:])) > 0.95
    read = roc_auc_score(coin[400:], probe.logistic_scores(z[:400], coin[:400], z[400:]))
    assert abs(read - 0.5) < 0.12
    # Few labels, more dimensions than patients, one class rare.
    few = np.r_[np.flatnonzero(y == 1)[:2], np.flatnonzero(y == 0)[:9]]
    assert np.isfinite(probe.logistic_scores(z[few], y[few], z[400:])).all()


def test_what_was_not_measured_counts_as_the_median():
    rng = np.random.default_rng(2)
    z = rng.normal(size=(200, 3))
    y = z[:, 0] + 0.1 * rng.normal(size=200)
    holes, filled = z.copy(), z.copy()
    holes[:20, 1] = np.nan
    filled[:20, 1] = np.median(z[20:150, 1])
    np.testing.assert_allclose(
        probe.ridge_predictions(holes[:150], y[:150], holes[150:]),
        probe.ridge_predictions(filled[:150], y[:150], filled[150:]),
    )
    holes[:, 2] = np.nan  # Never measured.
    assert np.isfinite(probe.ridge_predictions(holes[:150], y[:150], holes[150:])).all()
