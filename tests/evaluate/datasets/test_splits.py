"""Seeded splits: disjoint patients, shared out by label, whatever the order of the rows."""

import numpy as np
import pandas as pd
import pytest

from clef_jax.evaluate.datasets.splits import SHARES, split_patients, strata_of
from clef_jax.evaluate.tasks.examples import SPLITS


def cohort(draw, patients, labels):
    """Returns rows of patients, 1 to 4 each, and labels of different rarity."""
    patient = np.repeat(np.arange(patients), draw.integers(1, 5, patients)).astype(str)
    prevalence = 0.5 ** np.arange(1, labels + 1)
    table = pd.DataFrame((draw.random((len(patient), labels)) < prevalence).astype(float))
    return pd.Series(patient), table


@pytest.mark.parametrize("case", range(20))
def test_patients_are_whole_and_labels_shared_out(case):
    draw = np.random.default_rng(case)
    patient, labels = cohort(draw, int(draw.integers(30, 400)), int(draw.integers(1, 6)))
    strata = strata_of(labels, "multilabel")
    split = pd.Series(split_patients(patient, strata, seed=case))
    assert (split.groupby(patient).nunique() == 1).all()
    of_patient = split.groupby(patient).first()
    for name, share in zip(SPLITS, SHARES, strict=True):
        assert abs((of_patient == name).mean() - share) < 0.02 + 3 / len(of_patient)
    for column in range(strata.shape[1]):
        positive = pd.Series(strata[:, column]).groupby(patient).any()
        found = of_patient[positive].value_counts()
        for name, share in zip(SPLITS, SHARES, strict=True):
            off = abs(found.get(name, 0) - share * positive.sum())
            assert off < 3 + 0.1 * positive.sum(), (column, name)
        if positive.sum() >= 5:
            assert found.get("train", 0) and found.get("test", 0)


def test_order_of_rows_does_not_matter_and_the_seed_does():
    draw = np.random.default_rng(3)
    patient, labels = cohort(draw, 100, 3)
    strata = strata_of(labels, "multilabel")
    split = split_patients(patient, strata, seed=5)
    order = draw.permutation(len(patient))
    assert (split_patients(patient.iloc[order], strata[order], seed=5) == split[order]).all()
    assert (split_patients(patient, strata, seed=6) != split).any()


def test_strata_of_each_kind():
    binary = pd.DataFrame({"a": [0.0, 1.0, np.nan, 1.0]})
    assert strata_of(binary, "binary").tolist() == [
        [True, False], [False, True], [False, False], [False, True]
    ]  # fmt: skip
    classes = pd.DataFrame({"class": [0.0, 2.0, 1.0]})
    assert strata_of(classes, "multiclass").sum(axis=1).tolist() == [1, 1, 1]
    values = pd.DataFrame({"age": np.arange(101.0)})
    fifths = strata_of(values, "regression")
    assert fifths.shape[1] == 5 and fifths.sum(axis=0).tolist() == [21, 20, 20, 20, 20]
    values["age"] = np.nan
    assert not strata_of(values, "regression").any()


@pytest.mark.parametrize("patients", range(3, 12))
def test_no_split_of_three_patients_or_more_is_empty(patients):
    patient = pd.Series([f"p{at}" for at in range(patients)])
    for seed in range(5):
        strata = np.arange(patients)[:, None] % 2 == [0, 1]
        assert set(split_patients(patient, strata, seed=seed)) == set(SPLITS)


def test_two_patients_of_a_rare_label_are_trained_and_tested_on():
    patient = pd.Series([f"p{at}" for at in range(50)])
    for seed in range(10):
        strata = np.isin(np.arange(50), [3, 40])[:, None]
        split = split_patients(patient, strata, seed=seed)
        assert set(split[[3, 40]]) == {"train", "test"}
