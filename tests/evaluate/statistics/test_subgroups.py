"""Figures of subgroups: those of their rows alone, and gaps that are there."""

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, roc_auc_score

from clef_jax.evaluate.statistics.predictions import scored
from clef_jax.evaluate.statistics.subgroups import AGE_BANDS, LARGEST_GAP, subgroup_figures
from tests.predicted import LABELS, predicted


def of_test(predictions, kind):
    return scored(predictions, kind, LABELS[kind], "test")


def test_figures_are_those_of_the_groups_rows():
    predictions = predicted("binary", patients=200, seed=1)
    found = subgroup_figures([of_test(predictions, "binary")], "auroc", resamples=100)
    found = found.set_index(["attribute", "group"])
    rows = predictions.query("split == 'test'")
    low = {"<40": 0, "40-59": 40, "60-74": 60, ">=75": 75}
    high = {"<40": 40, "40-59": 60, "60-74": 75, ">=75": 200}
    groups = {("age", band): rows.query(f"{low[band]} <= age < {high[band]}") for band in AGE_BANDS}
    groups |= {("sex", sex): rows.query("sex == @sex") for sex in ("male", "female")}
    groups |= {("site", site): rows.query("site == @site") for site in ("north", "south")}
    for key, of_group in groups.items():
        expected = roc_auc_score(of_group["target"], of_group["score"])
        assert found.loc[key, "value"] == pytest.approx(expected)
        assert found.loc[key, "low"] < expected < found.loc[key, "high"]
        assert found.loc[key, "n"] == len(of_group)
        assert found.loc[key, "patients"] == of_group["patient"].nunique()
        assert found.loc[key, "positives"] == of_group["target"].sum()
    order = [group for attribute, group in found.index if attribute == "age"]
    assert tuple(order[:4]) == AGE_BANDS
    values = [found.loc["age", band]["value"] for band in AGE_BANDS]
    assert order[4].startswith(LARGEST_GAP)
    assert found.loc["age", order[4]]["value"] == pytest.approx(max(values) - min(values))


def test_a_planted_gap_is_found_and_chance_is_not():
    predictions = predicted("regression", patients=300, seed=2)
    men = predictions["sex"] == "male"
    target = predictions["target"]
    predictions.loc[men, "score"] = target[men] + 3 * (predictions["score"] - target)[men]
    found = subgroup_figures([of_test(predictions, "regression")], "mae", resamples=300)
    gaps = found[found["group"].str.startswith(LARGEST_GAP)].set_index("attribute")
    assert gaps.loc["sex", "group"] == f"{LARGEST_GAP}: male less female"
    assert gaps.loc["sex", "low"] > 0 and gaps.loc["site", "low"] < 0
    rows = predictions.query("split == 'test' and sex == 'male'")
    expected = mean_absolute_error(rows["target"], rows["score"])
    men = found.set_index("group").loc["male"]
    assert men["value"] == pytest.approx(expected) and men["labels"] == 1


def test_groups_are_compared_on_the_same_labels():
    predictions = predicted("multilabel", patients=200, seed=3)
    lacking = (predictions["label"] == "HYP") & (predictions["sex"] == "male")
    predictions.loc[lacking, "target"] = 0.0
    found = subgroup_figures([of_test(predictions, "multilabel")], "auroc", resamples=20)
    women = found.set_index("group").loc["female"]
    assert women["labels"] == 2
    rows = predictions.query("split == 'test' and sex == 'female'")
    aurocs = [
        roc_auc_score(of_label["target"], of_label["score"])
        for label, of_label in rows.groupby("label")
        if label != "HYP"
    ]
    assert women["value"] == pytest.approx(np.mean(aurocs))


def test_unknown_attributes_have_no_groups():
    predictions = predicted("binary", seed=4).drop(columns=["site", "age"])
    predictions["sex"] = "female"
    assert subgroup_figures([of_test(predictions, "binary")], "auroc", resamples=5).empty
    predictions.loc[predictions["patient"].str.endswith(("1", "2", "3")), "sex"] = None
    predictions.loc[predictions["patient"].str.endswith(("5", "6", "7")), "sex"] = "male"
    found = subgroup_figures([of_test(predictions, "binary")], "auroc", resamples=5)
    known = predictions.query("split == 'test'")["sex"].notna().sum()
    assert found["n"].sum() == known and len(found) == 3
