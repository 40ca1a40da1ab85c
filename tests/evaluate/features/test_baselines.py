"""What needs no encoder: constants, people, and gaps in measurements."""

import numpy as np
import pandas as pd
import pytest

from clef_jax.evaluate.features.baselines import constant_scores, demographics, without_gaps


def test_a_constant_is_the_mean_of_what_is_known_in_train():
    targets = np.array([[1, 120.0], [0, np.nan], [1, 140.0], [0, 999.0]])
    train = np.array([True, True, True, False])
    found = constant_scores(targets, train, "regression")
    np.testing.assert_allclose(found, [[2 / 3, 130.0]] * 4)
    targets[:3, 1] = np.nan
    assert np.isnan(constant_scores(targets, train, "regression")[:, 1]).all()


def test_a_label_of_one_class_has_no_constant_as_it_has_no_probe():
    targets = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    found = constant_scores(targets, np.array([True, True, False]), "multilabel")
    assert np.isnan(found[:, 0]).all() and (found[:, 1] == 0.5).all()
    assert (constant_scores(targets, np.array([True, True, False]), "regression")[:, 0] == 1).all()


def test_people_are_known_by_age_and_sex_or_by_one_or_not_at_all():
    table = pd.DataFrame({"age": [50, np.nan], "sex": ["male", "female"], "site": ["a", "b"]})
    np.testing.assert_array_equal(demographics(table), [[50, 1], [np.nan, 0]])
    np.testing.assert_array_equal(demographics(table[["sex"]]), [[1], [0]])
    table["sex"] = [None, "unknown"]
    np.testing.assert_array_equal(demographics(table), [[50], [np.nan]])
    assert demographics(table[["site"]]) is None
    assert demographics(table[["sex"]]) is None


@pytest.mark.parametrize("seed", range(5))
def test_gaps_take_the_median_of_train_and_are_told(seed):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(40, 4))
    features[rng.random((40, 4)) < 0.3] = np.nan
    train = np.arange(40) < 25
    features[train, 2] = np.nan  # Never known in train.
    features[train, 3] = rng.normal(size=25)  # Always known there.
    features[30, 3] = np.inf
    found = without_gaps(features, train)
    assert found.shape == (40, 6) and np.isfinite(found).all()
    for column in (0, 1):
        missing = np.isnan(features[:, column])
        median = np.median(features[train & ~missing, column])
        np.testing.assert_array_equal(found[missing, column], median)
        np.testing.assert_array_equal(found[:, 4 + column], missing)
        np.testing.assert_array_equal(found[~missing, column], features[~missing, column])
    assert not found[:, 2].any()
    assert found[30, 3] == np.median(features[train, 3])
