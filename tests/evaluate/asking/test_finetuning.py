"""`--mode finetune`, `frozen` and `scratch`: what is trained, for whom, on how much, and once."""

import pandas as pd
import pytest

from clef_jax.evaluate.asking.encoders import contestants
from clef_jax.evaluate.asking.run import Choices, evaluate
from tests.evaluate.cohorts import planted, task, write_cohort


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    return folder, write_cohort(folder, patients=100)


def ask(cohort, encoders, out, mode, **choices):
    made = Choices(mode=mode, leads=("II",), workers=0, **choices)
    summary = evaluate([task(planted(*cohort))], "", encoders, made, out)
    assert not summary.not_run, summary.not_run
    return pd.read_parquet(out / "predictions.parquet")


@pytest.mark.slow
def test_trainings_stand_beside_baselines_and_are_done_once(cohort, weights, tmp_path):
    out = tmp_path / "R"
    encoders = contestants([weights], seeds=1)
    found = ask(cohort, encoders, out, "finetune", seeds=2)
    trained = found[found["mode"] == "finetune"]
    assert set(trained["model"]) == {"tiny"} and set(trained["seed"]) == {0, 1}
    assert set(trained["split"]) == {"validation", "test"} and trained["score"].between(0, 1).all()
    assert {"heart rate", "prevalence"} < set(found[found["mode"] == "baseline"]["model"])
    results = pd.read_parquet(out / "results.parquet")
    of_test = results[(results["mode"] == "finetune") & (results["metric"] == "auroc")]
    assert set(of_test["seed"]) == {-1, 0, 1}
    before = {path: path.stat().st_mtime_ns for path in out.rglob("parts/*.parquet")}
    again = ask(cohort, encoders, out, "finetune", seeds=2)
    pd.testing.assert_frame_equal(again, found)
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("parts/*.parquet")}


@pytest.mark.slow
def test_from_scratch_encoders_of_one_size_are_one(cohort, weights, tmp_path):
    encoders = contestants([weights, "random"], seeds=2)
    found = ask(cohort, encoders, tmp_path / "R", "scratch", seeds=1, fractions=(0.5,))
    trained = found[found["mode"] == "scratch"]
    (name,) = set(trained["model"])
    assert name == encoders[0].encoder.config.name and set(trained["fingerprint"]) == {""}


@pytest.mark.slow
def test_a_share_of_one_class_is_untrainable_and_untrained_encoders_keep_their_seed(
    cohort, weights, tmp_path
):
    encoders = contestants([weights, "random"], seeds=2)
    found = ask(cohort, encoders, tmp_path / "R", "frozen", seeds=1, fractions=(0.01,))
    trained = found[found["mode"] == "frozen"]
    assert trained["score"].isna().all()  # One patient.
    seeds = trained.groupby("model")["seed"].unique().map(list).to_dict()
    assert sorted(map(sorted, seeds.values())) == [[0], [0, 1]]
