"""`clef-jax evaluate`: the folder it fills, what it skips, what it refuses, and real recordings."""

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest

from clef_jax.cli import main as cli
from clef_jax.data.recordings.recording import Hints
from clef_jax.evaluate.asking.encoders import contestants
from clef_jax.evaluate.asking.results import PREDICTIONS
from clef_jax.evaluate.asking.run import Choices, evaluate
from clef_jax.evaluate.datasets.ptbxl import read_database
from clef_jax.evaluate.statistics.compare import COMPARISON_COLUMNS
from clef_jax.evaluate.statistics.evaluate import RESULT_COLUMNS
from tests.evaluate.cohorts import info, planted, task, write_cohort

CHOICES = Choices(leads=("I", "II"), fractions=(0.02, 1.0), workers=0)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    return folder, write_cohort(folder, patients=100)


@pytest.fixture(scope="module")
def out(cohort, weights, tmp_path_factory):
    """Results of planted labels."""
    out = tmp_path_factory.mktemp("out") / "R"
    encoders = contestants([weights, "random"], seeds=2)
    summary = evaluate([task(planted(*cohort))], "", encoders, CHOICES, out, command="a b")
    assert summary.done == [{"task": "simulated", "preset": "clean", "lead": "II"}]
    assert not summary.not_run and not summary.unreadable
    return out


def table(out, name):
    return pd.read_parquet(out / f"{name}.parquet")


def run(*arguments):
    return cli.main(["evaluate", *map(str, arguments), "--workers", "0"])


def test_tables_say_who_found_the_signal_and_by_how_much(out, weights):
    results, predictions = table(out, "results"), table(out, "predictions")
    assert list(results.columns) == list(RESULT_COLUMNS)
    assert list(predictions.columns) == list(PREDICTIONS)
    assert list(table(out, "comparisons").columns) == list(COMPARISON_COLUMNS)
    of_test = results[(results["metric"] == "auroc") & (results["fraction"] == 1)]
    by_model = of_test[of_test["seed"] == -1].set_index("model")
    assert by_model.loc["tiny", "value"] > 0.9 and by_model.loc["tiny", "n"] == 20
    assert by_model.loc["plain measurements", "low"] > 0.5  # No end where none is mistaken.
    assert by_model.loc["heart rate", "low"] < 0.5
    assert set(of_test[of_test["model"].str.startswith("random")]["seed"]) == {-1, 0, 1}
    assert (of_test["split_hash"] == predictions["split_hash"][0]).all()
    trained = of_test[of_test["model"] == "tiny"]
    (one, *_) = contestants([weights], seeds=1)
    assert set(trained["fingerprint"]) == {one.weights} and len(set(trained["preparation"])) == 1
    compared = table(out, "comparisons")
    pair = compared[(compared["model_a"] == "tiny") & (compared["model_b"] == "heart rate")]
    assert len(pair) and set(pair["mode"]) == {"probe"}


def test_a_share_that_leaves_one_class_is_reported_as_untrainable(out):
    """Of 60 patients 2 are left at 2 %: both of one class here, or the label can be learned."""
    predictions, results = table(out, "predictions"), table(out, "results")
    few = predictions[(predictions["fraction"] == 0.02) & (predictions["model"] == "tiny")]
    flags = set(results[(results["fraction"] == 0.02) & (results["model"] == "tiny")]["flag"])
    assert ("untrainable" in flags) == few["score"].isna().all()


def test_records_say_what_was_asked_of_whom(out):
    (about,) = json.loads((out / "tasks.json").read_text())
    assert about["counts"]["test"]["examples"] == 20 and about["kind"] == "binary"
    unknown = "unknown: the checkpoint does not say"
    assert about["overlap"] == {"tiny": unknown, "random clef_small": "0 of 20 tested patients"}
    assert about["commands"] == ["a b"] and about["versions"]["scikit-learn"]
    summary = json.loads((out / "summary.json").read_text())
    assert [one["name"] for one in summary["encoders"]] == ["tiny"] + ["random clef_small"] * 2
    assert not (out / "errors.csv").exists()


def test_what_is_done_is_not_done_again_and_what_is_new_is_added(cohort, out, weights, tmp_path):
    copy = tmp_path / "R"
    shutil.copytree(out, copy)
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*-*.parquet")}
    again = [task(planted(*cohort))]
    encoders = contestants([weights, "random"], seeds=2)
    evaluate(again, "", encoders, CHOICES, copy)
    assert before == {path: path.stat().st_mtime_ns for path in copy.rglob("*-*.parquet")}
    for name in ("results", "predictions", "comparisons"):
        pd.testing.assert_frame_equal(table(copy, name), table(out, name))
    other = task(planted(*cohort, permuted=True), info(name="permuted"))
    evaluate([other], "", encoders[:1], Choices(leads=("II",), workers=0), copy)
    assert set(table(copy, "results")["task"]) == {"simulated", "permuted"}
    asked = json.loads((copy / "tasks.json").read_text())
    assert sorted(one["name"] for one in asked) == ["permuted", "simulated"]


def test_another_encoder_of_the_same_name_is_refused(cohort, out, weights, tmp_path):
    copy = tmp_path / "R"
    shutil.copytree(out, copy)
    (one,) = contestants([weights], seeds=1)
    other = dataclasses.replace(one, weights="0" * 64)
    summary = evaluate([task(planted(*cohort))], "", [other], CHOICES, copy)
    (left,) = summary.not_run
    assert "tiny was another encoder there" in left["reason"]
    pd.testing.assert_frame_equal(table(copy, "results"), table(out, "results"))


def test_labels_that_mean_something_else_are_probed_anew(cohort, out, weights, tmp_path):
    copy = tmp_path / "R"
    shutil.copytree(out, copy)
    hinted = dataclasses.replace(planted(*cohort), hints=Hints(units="uV"))
    before = {path: path.read_bytes() for path in copy.glob("parts/predictions-*")}
    evaluate([task(hinted)], "", contestants([weights], seeds=1), CHOICES, copy)
    changed = [path for path, content in before.items() if path.read_bytes() != content]
    assert changed


def test_other_examples_of_the_same_task_are_refused(cohort, out, weights, tmp_path):
    copy = tmp_path / "R"
    shutil.copytree(out, copy)
    folder, rows = cohort
    fewer = task(planted(folder, rows[:80]))
    encoders = contestants([weights], seeds=1)
    summary = evaluate([fewer], "", encoders, CHOICES, copy)
    (left,) = summary.not_run
    assert "was asked of other examples there" in left["reason"]
    pd.testing.assert_frame_equal(table(copy, "results"), table(out, "results"))


def test_real_ecgs_of_a_table_by_untrained_encoders(real_data, weights, tmp_path, capsys):
    """Sex of 60 people: a plumbing test, whose score means nothing."""
    database = read_database(str(real_data / "ptb-xl"))
    there = [(real_data / "ptb-xl" / f"{file}.hea").is_file() for file in database["filename_hr"]]
    rows = database[there].drop_duplicates("patient_id").head(60)
    labels = pd.DataFrame(
        {
            "file": rows["filename_hr"],
            "patient": rows["patient_id"].astype(int),
            "female": rows["sex"].astype(int),
            "age": rows["age"],
        }
    )
    labels.to_csv(tmp_path / "sex.csv", index=False)
    out = tmp_path / "R"
    arguments = ["--table", tmp_path / "sex.csv", "--root", real_data / "ptb-xl", "--label"]
    arguments += [
        "female",
        "--weights",
        weights,
        "--weights",
        "random",
        "--seeds",
        "1",
        "--lead",
        "II",
        "--out",
        out,
    ]
    assert run(*arguments) == 0
    assert f"{out}: results of 1 questions; 0 tasks not run; 0 ex" in capsys.readouterr().out
    results = table(out, "results")
    macro = results[(results["metric"] == "auroc") & (results["seed"] == -1)]
    assert set(macro["model"]) == {
        "tiny",
        "random clef_small",
        "prevalence",
        "heart rate",
        "plain measurements",
        "age and sex",
    }
    assert macro["value"].between(0, 1).all() and (macro["high"] - macro["low"]).max() > 0.3
    predictions = table(out, "predictions")
    assert predictions["age"].notna().all() and set(predictions["lead"]) == {"II"}


def test_faults_end_in_a_line_and_the_exit_code_says_how(cohort, weights, tmp_path, capsys):
    folder, rows = cohort
    out = tmp_path / "R"
    given = ["--weights", weights, "--out", out]
    assert run("--task", "ptbxl/form", "--root", tmp_path, *given) == 3
    assert "not run: ptbxl/form" in (said := capsys.readouterr().err) and "physionet.org" in said
    assert run("--task", "ptbxl/from", "--root", tmp_path, *given) == 1
    assert "the nearest are ptbxl/form" in capsys.readouterr().err
    assert run("--task", "ptbxl/form", *given) == 1
    assert "--task needs --root" in capsys.readouterr().err
    assert run("--task", "music", "--root", tmp_path, "--fs", 250, *given) == 1
    assert "are for --table" in capsys.readouterr().err
    assert run("--task", "all", "--root", tmp_path, "--weights", weights, *given) == 1
    assert "are the same encoder" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run("--task", "all", "--root", tmp_path, "--fraction", "0.1,2", *given)
    assert "shares of at most 1" in capsys.readouterr().err
    labels = pd.DataFrame({"file": rows["file"], "inverted": rows["t_mv"] < 0})
    labels.to_csv(folder / "labels.csv", index=False)
    assert run("--table", folder / "labels.csv", "--label", "invertd", *given) == 1
    assert "inverted" in capsys.readouterr().err


def test_a_file_that_cannot_be_read_is_listed(cohort, weights, tmp_path, capsys):
    folder, rows = cohort
    labels = pd.DataFrame({"file": rows["file"], "inverted": (rows["t_mv"] < 0).astype(int)})
    labels.loc[3, "file"] = "gone"
    labels.to_csv(folder / "gone.csv", index=False)
    out = tmp_path / "R"
    arguments = ["--table", folder / "gone.csv", "--weights", weights, "--out", out, "--lead", "II"]
    assert run(*arguments) == 3
    assert "1 examples unreadable" in capsys.readouterr().out
    errors = pd.read_csv(out / "errors.csv")
    assert errors["example"].tolist() == ["gone"] and "gone" in errors["error"][0]
    assert np.isfinite(table(out, "predictions")["score"]).all()


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["clean", "reference"])
def test_superdiagnostic_of_real_ecgs(real_data, weights, tmp_path, preset):
    out = tmp_path / "R"
    arguments = ["--task", "ptbxl/superdiagnostic", "--root", real_data / "ptb-xl"]
    arguments += ["--weights", weights, "--weights", "random", "--seeds", 1, "--preset", preset]
    assert run(*arguments, "--out", out) == 0
    results = table(out, "results")
    assert set(results["lead"]) == ({"II"} if preset == "reference" else {"I", "II"})
    (about, *_) = json.loads((out / "tasks.json").read_text())
    assert about["counts"]["test"] == {
        "examples": 49, "patients": about["counts"]["test"]["patients"],
        "CD": 7, "HYP": 6, "MI": 7, "NORM": 29, "STTC": 11,
    }  # fmt: skip
    assert {"CD", "HYP", "MI", "NORM", "STTC", ""} <= set(results["label"])
