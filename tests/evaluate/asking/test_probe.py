"""Probes against scikit-learn, and what they make of few, unknown and one-sided labels."""

import itertools

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from clef_jax.evaluate.asking.probe import (
    CLASS_WEIGHTS,
    INVERSE_PENALTIES,
    RIDGE_PENALTIES,
    probe_scores,
    targets_of,
    training_rows,
)

N = 400
TRAIN, VALIDATION, TEST = np.split(np.arange(N), [200, 300])


def masks():
    train, validation = np.zeros((2, N), bool)
    train[TRAIN], validation[VALIDATION] = True, True
    return train, validation


def data(seed=0, width=8):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(N, width)) * rng.uniform(0.1, 5, width) + 3
    return features, rng.normal(size=width), rng


def scores(kind, features, targets, **more):
    train, validation = masks()
    return probe_scores(kind, features, targets, train, validation, jobs=2, **more)


@pytest.mark.parametrize("seed", range(3))
def test_the_probe_is_the_best_of_the_grid_by_validation(seed):
    features, direction, rng = data(seed)
    logits = (features - 3) @ direction / 5
    y = (rng.random(N) < 1 / (1 + np.exp(1.5 - logits))).astype(float)
    best, expected = np.inf, None
    scaled = StandardScaler().fit(features[TRAIN]).transform(features)
    for z, c, weight in itertools.product((scaled, features), INVERSE_PENALTIES, CLASS_WEIGHTS):
        regression = LogisticRegression(C=c, class_weight=weight, tol=1e-8, max_iter=10_000)
        with threadpool_limits(1):
            p = regression.fit(z[TRAIN], y[TRAIN]).predict_proba(z)[:, 1]
        if (loss := log_loss(y[VALIDATION], p[VALIDATION])) < best:
            best, expected = loss, p
    found = scores("multilabel", features, y[:, None])[:, 0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-3)


def test_ridge_is_the_best_of_the_grid_by_validation():
    for seed, width in itertools.product(range(3), (8, 300)):
        features, direction, rng = data(seed, width)
        y = 120 + 10 * (features @ direction / width + rng.normal(size=N))
        z = StandardScaler().fit(features[TRAIN]).transform(features)
        mean, sd = y[TRAIN].mean(), y[TRAIN].std()
        best, expected = np.inf, None
        for penalty in RIDGE_PENALTIES:
            ridge = Ridge(penalty, solver="svd")
            with threadpool_limits(1):
                ridge.fit(z[TRAIN], (y[TRAIN] - mean) / sd)
            value = mean + sd * ridge.predict(z)
            error = np.mean((value[VALIDATION] - y[VALIDATION]) ** 2)
            if error < best:
                best, expected = error, value
        found = scores("regression", features, y[:, None])[:, 0]
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_classes_are_probed_one_by_one_and_sum_to_one():
    features, direction, rng = data()
    order = (features - 3) @ direction + rng.normal(size=N)
    kind = np.digitize(order, np.quantile(order, [0.3, 0.8])).astype(float)
    table = pd.DataFrame({"class": kind})
    targets = targets_of(table, ("class",), "multiclass", 4)
    np.testing.assert_array_equal(targets.sum(axis=0), [120, 200, 80, 0])
    found = scores("multiclass", features, targets)
    assert np.isnan(found[:, 3]).all()  # Nobody is of the fourth.
    np.testing.assert_allclose(found[:, :3].sum(axis=1), 1, rtol=1e-12)
    for at in range(3):
        assert roc_auc_score(targets[TEST, at], found[TEST, at]) > 0.7
    table.loc[5, "class"] = np.nan
    assert np.isnan(targets_of(table, ("class",), "multiclass", 4)[5]).all()


def test_unknown_labels_are_no_rows_of_theirs_and_rows_of_the_others():
    features, direction, rng = data()
    y = ((features - 3) @ direction > 0).astype(float)
    targets = np.stack([y, 1 - y], axis=1)
    unknown = rng.permutation(N)[:150]
    targets[unknown, 0] = np.nan
    found = scores("multilabel", features, targets)
    assert np.isfinite(found).all()
    train, validation = (mask & np.isfinite(targets[:, 0]) for mask in masks())
    # Standardised by all training rows, as the other label's.
    alone = probe_scores("binary", features, y[:, None], train, validation, jobs=1)
    np.testing.assert_allclose(found[:, 0], alone[:, 0], rtol=0, atol=0.02)
    changed = targets.copy()
    changed[np.isnan(changed)] = 1.0
    assert np.abs(scores("multilabel", features, changed)[:, 0] - found[:, 0]).max() > 0.05


def test_what_nobody_can_learn_is_not_scored():
    features, direction, _ = data()
    y = ((features - 3) @ direction > 0).astype(float)
    no_positive, no_negative, unknown, unchosen = (y.copy() for _ in range(4))
    no_positive[TRAIN], no_negative[TRAIN] = 0, 1
    unknown[TRAIN], unchosen[VALIDATION] = np.nan, np.nan
    targets = np.stack([y, no_positive, no_negative, unknown, unchosen], axis=1)
    found = scores("multilabel", features, targets)
    assert np.isfinite(found).any(axis=0).tolist() == [True, False, False, False, False]
    one = no_positive.copy()
    one[0] = 1  # A single positive is enough.
    assert np.isfinite(scores("binary", features, one[:, None])).all()
    single = np.where(np.isin(np.arange(N), VALIDATION), 0.0, y)
    assert np.isfinite(scores("binary", features, single[:, None])).all()
    nobody = np.zeros(N, bool)
    found = probe_scores("binary", features, y[:, None], nobody, masks()[1], jobs=1)
    assert np.isnan(found).all()


def test_a_constant_target_and_a_constant_feature_are_no_trouble():
    features, _, _ = data()
    features[:, 0] = 7
    found = scores("regression", features, np.full((N, 1), 130.0))
    np.testing.assert_allclose(found, 130.0)


@pytest.mark.parametrize("seed", range(5))
def test_fractions_are_nested_subsets_of_the_training_patients(seed):
    patient = np.repeat([f"p{i}" for i in range(200)], 3)
    split = np.where(np.arange(600) < 450, "train", "test")
    table = pd.DataFrame({"patient": patient, "split": split})
    fractions = (0.001, 0.01, 0.1, 0.3, 1.0)
    found = [training_rows(table, fraction, seed) for fraction in fractions]
    counts = [len(set(patient[rows])) for rows in found]
    assert counts == [1, 2, 15, 45, 150]
    for rows, more in itertools.pairwise(found):
        assert (rows <= more).all()
        # Whole patients, and nobody who is tested.
        assert set(patient[rows]).isdisjoint(patient[(split == "train") & ~rows])
    assert (found[-1] == (split == "train")).all()
    shuffled = table.sample(frac=1, random_state=seed)
    again = training_rows(shuffled, 0.1, seed)
    assert set(shuffled["patient"][again]) == set(patient[found[2]])
    assert set(patient[training_rows(table, 0.1, seed + 1)]) != set(patient[found[2]])
