"""Results of a task: every number against scikit-learn, and what cannot be scored said so."""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as oracle

from clef_jax.evaluate import metrics
from clef_jax.evaluate.statistics import evaluate_predictions
from clef_jax.evaluate.statistics.evaluate import RESULT_COLUMNS, UNFLAGGED
from clef_jax.evaluate.statistics.resampling import patient_draws
from tests.predicted import LABELS, predicted


def figure(results, metric, label="", seed=-1):
    found = results.query("metric == @metric and label == @label and seed == @seed")
    assert len(found) == 1
    return found.iloc[0]


def of_label(predictions, label, split="test"):
    return predictions[(predictions["label"] == label) & (predictions["split"] == split)]


@pytest.mark.parametrize("kind", ["multilabel", "multiclass", "binary"])
def test_figures_of_classification_are_scikit_learns(kind):
    predictions = predicted(kind, seed=3)
    results = evaluate_predictions(predictions, kind, resamples=50)
    assert tuple(results.columns) == RESULT_COLUMNS
    assert set(results["kind"]) == {kind} and set(results["metric"]) == set(metrics.CLASSIFICATION)
    macro = {}
    for label in LABELS[kind]:
        rows = of_label(predictions, label)
        y, p = rows["target"], rows["score"]
        for metric, expected in {
            "auroc": oracle.roc_auc_score(y, p),
            "auprc": oracle.average_precision_score(y, p),
            "brier": oracle.brier_score_loss(y, p),
        }.items():
            found = figure(results, metric, label if kind != "binary" else "")
            assert found["value"] == pytest.approx(expected, abs=1e-12)
            assert found["low"] < expected < found["high"]
            assert found["n"] == len(rows) and found["positives"] == y.sum()
            assert found["prevalence"] == pytest.approx(y.mean()) and found["flag"] == ""
            macro.setdefault(metric, []).append(expected)
    for metric, values in macro.items():
        assert figure(results, metric)["value"] == pytest.approx(np.mean(values), abs=1e-12)


def test_multiclass_accuracy_is_the_share_in_the_right_class():
    predictions = predicted("multiclass", seed=1)
    results = evaluate_predictions(predictions, "multiclass", resamples=20)
    wide = predictions.query("split == 'test'").pivot(
        index="example", columns="label", values=["target", "score"]
    )
    true, said = wide["target"].idxmax(axis=1), wide["score"].idxmax(axis=1)
    assert figure(results, "accuracy")["value"] == pytest.approx((true == said).mean())
    assert figure(results, "f1")["value"] == pytest.approx(
        oracle.f1_score(true, said, average="macro")
    )


def test_figures_of_regression_are_scikit_learns():
    predictions = predicted("regression", seed=2)
    results = evaluate_predictions(predictions, "regression", resamples=50)
    rows = of_label(predictions, "SBP")
    y, p = rows["target"], rows["score"]
    assert figure(results, "mae")["value"] == pytest.approx(oracle.mean_absolute_error(y, p))
    assert figure(results, "r2")["value"] == pytest.approx(oracle.r2_score(y, p))
    assert set(results["label"]) == {""} and set(results["metric"]) == set(metrics.REGRESSION)
    assert figure(results, "mae")["positives"] == 0 and figure(results, "mae")["n"] == len(rows)


def test_draws_are_of_patients_with_all_their_records():
    predictions = predicted("binary", seed=5, patients=30)
    results = evaluate_predictions(predictions, "binary", resamples=200, seed=7)
    rows = of_label(predictions, "AF").sort_values("example")
    y, p = rows["target"].to_numpy(), rows["score"].to_numpy()
    of_patient = [np.flatnonzero(rows["patient"] == name) for name in sorted(set(rows["patient"]))]
    drawn = []
    for counts in patient_draws(30, 200, 7)[1:]:
        again = np.concatenate(
            [of_patient[k] for k, count in enumerate(counts) for _ in range(count)]
        )
        if 0 < y[again].mean() < 1:
            drawn.append(oracle.roc_auc_score(y[again], p[again]))
    found = figure(results, "auroc")
    inside = np.mean((np.array(drawn) >= found["low"]) & (np.array(drawn) <= found["high"]))
    # A little more than 95 % of them, as few patients ask for.
    assert 0.95 <= inside <= 0.985


def test_thresholds_come_from_validation_alone():
    predictions = predicted("binary", seed=4)
    rows = of_label(predictions, "AF", "validation")
    false, true, thresholds = oracle.roc_curve(
        rows["target"], rows["score"], drop_intermediate=False
    )
    threshold = thresholds[np.argmax(true - false)]
    tested = of_label(predictions, "AF")
    expected = oracle.f1_score(tested["target"], tested["score"] >= threshold)
    results = evaluate_predictions(predictions, "binary", resamples=5)
    assert figure(results, "f1")["value"] == pytest.approx(expected)
    alone = evaluate_predictions(predictions[predictions["split"] == "test"], "binary", resamples=5)
    expected = oracle.accuracy_score(tested["target"], tested["score"] >= 0.5)
    assert figure(alone, "accuracy")["value"] == pytest.approx(expected)


def test_few_and_absent_and_untrainable_labels_are_named():
    predictions = predicted("multilabel", seed=6, patients=100, labels=("A", "B", "C", "D", "E"))
    is_test = predictions["split"] == "test"
    label = predictions["label"]
    kept = predictions[is_test & (label == "B") & (predictions["target"] == 1)].index[9:]
    predictions.loc[kept, "target"] = 0.0
    predictions.loc[is_test & (label == "C"), "target"] = 0.0
    predictions.loc[label == "D", "score"] = np.nan
    predictions.loc[is_test & (label == "E"), "target"] = np.nan
    results = evaluate_predictions(predictions, "multilabel", resamples=20)
    aurocs = results.query("metric == 'auroc' and seed == -1").set_index("label")
    assert aurocs["flag"].to_dict() == {
        "A": "",
        "B": "few positives",
        "C": "absent in test",
        "D": "untrainable",
        "E": "absent in test",
        "": "few positives",
        UNFLAGGED: "",
    }
    assert aurocs["value"].isna().to_dict() == {
        **dict.fromkeys(("A", "B", "", UNFLAGGED), False),
        **dict.fromkeys(("C", "D", "E"), True),
    }
    assert aurocs.loc["B", "positives"] == 9
    both = aurocs.loc[["A", "B"], "value"].mean()
    assert aurocs.loc["", "value"] == pytest.approx(both)
    assert aurocs.loc[UNFLAGGED, "value"] == pytest.approx(aurocs.loc["A", "value"])
    rare = aurocs.loc["B"]
    assert rare["high"] - rare["low"] > aurocs.loc["A", "high"] - aurocs.loc["A", "low"]


def test_unknown_targets_are_masked_label_by_label():
    predictions = predicted("multilabel", seed=8)
    rng = np.random.default_rng(0)
    predictions.loc[rng.random(len(predictions)) < 0.3, "target"] = np.nan
    results = evaluate_predictions(predictions, "multilabel", resamples=5)
    for label in LABELS["multilabel"]:
        rows = of_label(predictions, label).dropna(subset="target")
        found = figure(results, "auroc", label)
        expected = oracle.roc_auc_score(rows["target"], rows["score"])
        assert found["value"] == pytest.approx(expected) and found["n"] == len(rows)


def test_seeds_widen_the_interval_of_their_mean():
    one = predicted("binary", seed=9, patients=400, models=(("m", "finetune", 3.0),))
    apart = one.assign(seed=1, score=0.5 + 0.2 * (one["score"] - 0.5))
    apart["score"] = np.where(np.arange(len(apart)) % 2 == 0, 0.5, apart["score"])
    results = evaluate_predictions(pd.concat([one, apart]), "binary", resamples=400)
    first, second, both = (figure(results, "auroc", seed=seed) for seed in (0, 1, -1))
    assert both["value"] == pytest.approx((first["value"] + second["value"]) / 2)
    assert first["low"] > second["high"]
    assert both["low"] < second["value"] and both["high"] > first["value"]
    alone = evaluate_predictions(one, "binary", resamples=400)
    assert figure(alone, "auroc", seed=-1)["low"] == figure(alone, "auroc", seed=0)["low"]


def test_same_seed_same_results_whatever_the_order_of_rows():
    predictions = predicted("multilabel", seed=10)
    first = evaluate_predictions(predictions, "multilabel", resamples=30, seed=1)
    shuffled = predictions.sample(frac=1, random_state=0).sort_values("label", kind="stable")
    again = evaluate_predictions(shuffled, "multilabel", resamples=30, seed=1)
    order = ["label", "metric", "seed"]
    pd.testing.assert_frame_equal(
        first.sort_values(order, ignore_index=True), again.sort_values(order, ignore_index=True)
    )
    other = evaluate_predictions(predictions, "multilabel", resamples=30, seed=2)
    assert (first["value"] == other["value"]).all() and not first["low"].equals(other["low"])


def test_what_predictions_carry_stands_in_every_row():
    predictions = predicted("binary").assign(fingerprint="f00d", split_hash="5p117")
    results = evaluate_predictions(predictions, "binary", resamples=2)
    assert set(results["fingerprint"]) == {"f00d"} and set(results["split_hash"]) == {"5p117"}
    assert set(results["preparation"]) == {""}
