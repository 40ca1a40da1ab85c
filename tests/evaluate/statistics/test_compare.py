"""Models in pairs: chance is taken for a difference as seldom as promised, a difference is seen."""

import itertools

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from clef_jax.evaluate.statistics import compare_predictions, evaluate_predictions
from clef_jax.evaluate.statistics.compare import COMPARISON_COLUMNS
from clef_jax.evaluate.statistics.permutation import COMPARED, differences, p_values, paired
from clef_jax.evaluate.statistics.predictions import PredictionsError, Scored
from clef_jax.evaluate.statistics.resampling import holm
from tests.predicted import LABELS, cohort, predicted

THREE = (("good", "probe", 4.0), ("poor", "probe", 1.0), ("majority", "baseline", 0.0))


def test_swapping_is_what_it_says():
    rng = np.random.default_rng(0)
    target = (rng.random(40) < 0.4).astype(float)
    first, second = np.round(rng.random((2, 40)) + 0.3 * target, 1)
    swaps = rng.random((20, 40)) < 0.5
    found = differences("binary", target, first, second, swaps)
    assert found.shape == (20, len(COMPARED["binary"]))
    ranks = [np.array([np.mean(x < v) + np.mean(x <= v) for v in x]) for x in (first, second)]
    for row, swapped in enumerate(swaps):
        a, b = (np.where(swapped, y, x) for x, y in (ranks, ranks[::-1]))
        expected = roc_auc_score(target, a) - roc_auc_score(target, b)
        assert found[row, 0] == pytest.approx(expected, abs=1e-12)
        a, b = (np.where(swapped, y, x) for x, y in ((first, second), (second, first)))
        expected = np.mean((a - target) ** 2) - np.mean((b - target) ** 2)
        assert found[row, 2] == pytest.approx(expected, abs=1e-12)


def test_trainings_are_paired_evenly():
    for first, second in ((1, 3), (3, 3), (2, 3)):
        pairs = paired(range(first), range(second))
        for side, count in ((0, first), (1, second)):
            times = np.bincount([pair[side] for pair in pairs], minlength=count)
            assert (times == times[0]).all()


@pytest.mark.parametrize("kind", LABELS)
def test_differences_are_those_of_the_results(kind):
    predictions = predicted(kind, models=THREE, seed=1, patients=80)
    results = evaluate_predictions(predictions, kind, resamples=2)
    values = results.query("seed == -1").set_index(["model", "metric", "label"])["value"]
    comparisons = compare_predictions(predictions, kind, permutations=200)
    assert tuple(comparisons.columns) == COMPARISON_COLUMNS
    several = len(LABELS[kind]) if kind in ("multilabel", "multiclass") else 0
    assert len(comparisons) == 3 * len(COMPARED[kind]) * (1 + several)
    assert set(zip(comparisons["model_a"], comparisons["model_b"], strict=True)) == {
        ("good", "poor"),
        ("good", "majority"),
        ("poor", "majority"),
    }
    for row in comparisons.itertuples():
        a, b = (values[model, row.metric, row.label] for model in (row.model_a, row.model_b))
        assert row.difference == pytest.approx(a - b, abs=1e-12)
        assert row.low <= row.difference <= row.high
    assert comparisons["p_holm"].tolist() == pytest.approx(holm(comparisons["p"].to_numpy()))
    worse = comparisons.query("model_a == 'good' and metric in ('auroc', 'mae') and label == ''")
    assert (worse["p_holm"] < 0.05).all()


def test_equal_models_do_not_differ():
    predictions = predicted("multilabel", seed=2)
    twin = predictions.assign(model="twin")
    comparisons = compare_predictions(pd.concat([predictions, twin]), "multilabel")
    assert (comparisons["difference"] == 0).all() and (comparisons["p"] == 1).all()
    assert (comparisons["low"] == 0).all() and (comparisons["high"] == 0).all()


def test_scale_is_no_difference_of_order():
    predictions = predicted("binary", seed=3)
    scaled = predictions.assign(model="cautious", score=0.4 + 0.1 * predictions["score"])
    comparisons = compare_predictions(pd.concat([predictions, scaled]), "binary")
    found = comparisons.set_index("metric")
    assert found.loc["auroc", "p"] == 1 and found.loc["auprc", "p"] == 1
    assert found.loc["brier", "difference"] != 0 and found.loc["brier", "p"] < 0.05


def test_who_is_compared_with_whom():
    modes = {"probe": ("a", "b"), "finetune": ("a",), "scratch": ("a",), "baseline": ("mean", "HR")}
    models = [(name, mode, 1.0) for mode, names in modes.items() for name in names]
    predictions = predicted("regression", models=models, seed=4, patients=20)
    found = compare_predictions(predictions, "regression", permutations=10)
    pairs = set(found[["mode", "model_a", "model_b"]].itertuples(index=False, name=None))
    bars = ("mean", "HR")
    assert pairs == {
        ("probe", "a", "b"),
        ("finetune", "a", "a (scratch)"),
        *itertools.product(("probe",), ("a", "b"), bars),
        *itertools.product(("finetune", "scratch"), ("a",), bars),
    }


def test_models_are_compared_on_the_examples_of_both():
    predictions = predicted("binary", models=THREE[:2], seed=5)
    tested = predictions.query("split == 'test'")["example"].unique()
    lost = set(tested[:7])
    partly = predictions[~((predictions["model"] == "poor") & predictions["example"].isin(lost))]
    found = compare_predictions(partly, "binary", permutations=10)
    assert set(found["n"]) == {len(tested) - 7}
    without = predictions[~predictions["example"].isin(lost)]
    pd.testing.assert_frame_equal(found, compare_predictions(without, "binary", permutations=10))


def test_labels_of_few_positives_have_differences_but_no_test():
    predictions = predicted("multilabel", models=THREE[:2], seed=6)
    rare = (predictions["label"] == "HYP") & (predictions["split"] == "test")
    positive = predictions[rare & (predictions["target"] == 1)]["example"].unique()
    predictions.loc[rare & predictions["example"].isin(positive[5:]), "target"] = 0.0
    found = compare_predictions(predictions, "multilabel", permutations=10)
    assert found["p"].isna().equals(found["label"] == "HYP")
    assert found["difference"].notna().all() and found["p_holm"].notna().sum() == 9


def test_other_targets_are_refused():
    predictions = predicted("binary", models=THREE[:2])
    which = predictions.query("model == 'poor' and split == 'test'").index[0]
    predictions.loc[which, "target"] = 1 - predictions.loc[which, "target"]
    with pytest.raises(PredictionsError, match=r"poor \(probe\) have other targets"):
        compare_predictions(predictions, "binary")


def test_one_model_has_nobody_to_compare_with():
    found = compare_predictions(predicted("binary"), "binary")
    assert found.empty and tuple(found.columns) == COMPARISON_COLUMNS


def two_models(rng, patients, better):
    """Returns two models in scales of their own, one perhaps better; records share noise."""
    codes = cohort(rng, patients, 3)
    n = len(codes)
    target = (rng.random(patients) < 0.4).astype(float)[codes]
    models = []
    for gain, scale in ((better, 1.0), (0.0, 0.1)):
        own = rng.normal(size=patients)[codes]
        score = scale * ((1 + gain) * target + own + 0.7 * rng.normal(size=n))
        columns = target[:, None], score[:, None], np.zeros((n, 1))
        models.append(Scored("binary", ("x",), np.arange(n), codes, *columns, pd.DataFrame()))
    return models, codes


def share_found(simulations, *, better, seed=0):
    """Returns how often AUROCs of two models are found to differ, at a level of 5 %."""
    rng = np.random.default_rng(seed)
    found = 0
    for number in range(simulations):
        models, codes = two_models(rng, 60, better)
        p = p_values([models], [0], codes, np.ones(2, bool), 99, number)
        found += p[0, 0] <= 0.05
    return found / simulations


def test_chance_is_seldom_taken_for_a_difference():
    assert share_found(80, better=0.0) <= 0.12
    assert share_found(30, better=2.5) > 0.8


@pytest.mark.slow
def test_false_positives_and_power():
    assert share_found(5000, better=0.0) == pytest.approx(0.05, abs=0.01)
    assert share_found(500, better=2.5) > 0.9


def test_p_beyond_the_permutations_reach_is_a_bound_on_the_truth():
    rng = np.random.default_rng(3)
    patients = 14
    target = rng.normal(size=patients)
    first = target + 0.1 * rng.normal(size=patients)
    second = target + rng.uniform(0.5, 1.5, patients)
    columns = [(target[:, None], x[:, None], np.zeros((patients, 1))) for x in (first, second)]
    codes = np.arange(patients)
    models = [Scored("regression", ("x",), codes, codes, *c, pd.DataFrame()) for c in columns]
    apart = np.abs(first - target) - np.abs(second - target)
    signs = np.array(list(itertools.product((-1, 1), repeat=patients)))
    exact = np.mean(np.abs(signs @ apart) >= np.abs(apart.sum()) - 1e-12)
    found = p_values([models], [0], codes, np.ones(2, bool), 40, 0)[0, 0]
    assert exact <= found < 1 / 41
    assert p_values([models], [0], codes, np.ones(2, bool), 20_000, 0)[0, 0] == pytest.approx(
        exact, abs=3e-4
    )
