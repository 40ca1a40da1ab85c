"""Runs merged: models of several folders side by side, and what cannot be merged said so."""

import numpy as np
import pandas as pd
import pytest

from clef_jax.cli import main as cli
from clef_jax.evaluate.report.answers import read_answers
from clef_jax.evaluate.report.runs import EvaluationRunError
from clef_jax.evaluate.statistics import compare_predictions, evaluate_predictions
from clef_jax.evaluate.statistics.resampling import holm
from tests.runs_of_evaluation import MODELS, task, write_run

FEW = {"resamples": 10, "permutations": 10}


def binary(models, **arguments):
    return task("binary", models=models, patients=15, fractions=(1.0,), **arguments)


def test_what_a_run_lacks_is_computed(tmp_path):
    predictions = binary(MODELS)
    run = write_run(tmp_path / "R", {"binary": predictions}, computed=False)
    (answers,) = read_answers([str(run)])
    results = evaluate_predictions(predictions, "binary")
    pd.testing.assert_frame_equal(answers.results, results)
    pd.testing.assert_frame_equal(answers.comparisons, compare_predictions(predictions, "binary"))


def test_written_results_are_taken_as_they_are(tmp_path):
    run = write_run(tmp_path / "R", {"binary": binary(MODELS)}, **FEW)
    (answers,) = read_answers([str(run)])
    written = pd.read_parquet(run / "results.parquet")
    pd.testing.assert_frame_equal(answers.results, written)


def test_models_of_several_runs_are_compared(tmp_path):
    together = binary(MODELS)
    first = write_run(tmp_path / "A", {"binary": together[together["model"] != "majority"]}, **FEW)
    second = write_run(
        tmp_path / "B", {"binary": together[together["model"] != "clef_small"]}, **FEW
    )
    (answers,) = read_answers([str(first), str(second)])
    assert len(answers.predictions) == len(together)
    assert set(answers.comparisons["model_b"]) == {"random clef_small", "majority"}
    values = answers.results.set_index(["model", "metric", "seed"])["value"]
    expected = evaluate_predictions(together, "binary").set_index(["model", "metric", "seed"])
    for key, value in expected["value"].items():
        assert values[key] == value
    assert set(answers.results["fingerprint"]) == {"f1n6e7"}


def test_one_name_of_two_models_is_told_apart(tmp_path):
    runs = []
    for seed in (0, 1):
        predictions = binary(MODELS[:1], seed=5)
        rng = np.random.default_rng(seed)
        predictions["score"] = np.clip(
            predictions["score"] + rng.normal(0, 0.1, len(predictions)), 0, 1
        )
        runs.append(str(write_run(tmp_path / f"R{seed}", {"binary": predictions}, **FEW)))
    (answers,) = read_answers(runs)
    assert set(answers.results["model"]) == {"clef_small", "clef_small [R1]"}


def test_one_name_of_two_weights_is_told_apart_though_no_row_is_alike(tmp_path):
    runs = []
    for fraction in (0.1, 1.0):
        predictions = task("binary", models=MODELS[:1], patients=30, fractions=(fraction,))
        predictions = predictions.assign(fingerprint=f"weights {fraction}")
        runs.append(str(write_run(tmp_path / f"R{fraction:g}", {"binary": predictions}, **FEW)))
    (answers,) = read_answers(runs)
    assert set(answers.results["model"]) == {"clef_small", "clef_small [R1]"}


def test_holm_sees_all_tests_of_the_report(tmp_path):
    tasks = {"binary": binary(MODELS), "regression": task("regression", patients=15)}
    answers = read_answers([str(write_run(tmp_path / "R", tasks, **FEW))])
    p = np.concatenate([one.comparisons["p"] for one in answers])
    corrected = np.concatenate([one.comparisons["p_holm"] for one in answers])
    assert corrected.tolist() == holm(p).tolist() and len(p) > 12


def damaged(name, content):
    def damage(run):
        (run / name).write_bytes(content)

    return damage


def without(name, column):
    def damage(run):
        table = pd.read_parquet(run / name)
        table.drop(columns=[column]).to_parquet(run / name)

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / "predictions.parquet").unlink(), "R: no predictions.parquet"),
        (damaged("predictions.parquet", b"PAR1"), "predictions.parquet: damaged"),
        (damaged("comparisons.parquet", b"no"), "comparisons.parquet: damaged"),
        (without("predictions.parquet", "score"), "lacks the columns score"),
        (without("results.parquet", "flag"), "results.parquet: lacks the columns flag"),
        (damaged("tasks.json", b"[{]"), "tasks.json: damaged"),
        (damaged("tasks.json", b'{"name": 1}'), "tasks.json: damaged"),
        (damaged("tasks.json", b'[{"name": "simulated/binary", "kind": "x"}]'), "kind of task"),
    ],
)  # fmt: skip
def test_damaged_runs_are_named(tmp_path, capsys, damage, message):
    run = write_run(tmp_path / "R", {"binary": binary(MODELS[:2])}, **FEW)
    damage(run)
    assert cli.main(["report", str(run), "--out", str(tmp_path / "report.html")]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "report.html").exists()


def test_other_splits_are_not_compared(tmp_path):
    predictions = {"binary": binary(MODELS[:2])}
    runs = [
        str(write_run(tmp_path / name, predictions, **FEW, split_hash=name)) for name in ("A", "B")
    ]
    with pytest.raises(
        EvaluationRunError, match=r"simulated/binary \(clean, lead I\): other examples"
    ):
        read_answers(runs)


def test_run_without_test_predictions_is_told(tmp_path):
    predictions = binary(MODELS[:2])
    tasks = {"binary": predictions[predictions["split"] == "validation"]}
    run = write_run(tmp_path / "R", tasks, computed=False)
    with pytest.raises(EvaluationRunError, match="no test predictions"):
        read_answers([str(run)])


def test_page_must_be_html(tmp_path, capsys):
    assert cli.main(["report", str(tmp_path), "--out", "report.pdf"]) == 1
    assert "expected a name that ends with .html" in capsys.readouterr().err
