"""Tested patients whom an encoder was trained on: from shards to the record of a question."""

import json

import pandas as pd
import pytest

from clef_jax.checkpoints.patients import PATIENTS, patients_in
from clef_jax.cli import main as cli
from clef_jax.data.shards.store import ShardSet
from clef_jax.evaluate.finetune import load_head
from clef_jax.inference import load_encoder
from clef_jax.models import registry
from clef_jax.train.pretrain import pretrain
from tests.evaluate.cohorts import write_cohort
from tests.train.runs import TINY, config_of

SHARED = 3


@pytest.fixture(scope="module")
def pretrained(shards_folder, tmp_path_factory):
    """The workdir of a short run."""
    workdir = tmp_path_factory.mktemp("runs")
    short = {"steps": 2, "checkpoint_steps": 1, "evaluators__validation": 0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._CONFIGS, "clef_small", TINY)
        config = config_of(**short, evaluators__probe=0)
        assert pretrain(config, shards_folder, workdir / "run")["status"] == "finished"
    return workdir / "run"


@pytest.fixture(scope="module")
def table(shards_folder, tmp_path_factory):
    """A labelled table of other recordings, three of whose 20 tested patients the shards hold."""
    folder = tmp_path_factory.mktemp("table")
    cohort = write_cohort(folder, patients=100)
    cohort["inverted"] = (cohort.pop("t_mv") < 0).astype(int)
    tested = cohort["split"] == "test"
    known = sorted(set(ShardSet(shards_folder).patient))
    cohort.loc[cohort.index[tested][:SHARED], "patient"] = known[:SHARED]
    cohort.loc[cohort.index[~tested][:SHARED], "patient"] = known[SHARED : 2 * SHARED]
    path = folder / "inverted.csv"
    cohort[["file", "patient", "split", "lead", "inverted"]].to_csv(path, index=False)
    return path


@pytest.mark.slow
def test_a_pretraining_says_whom_it_saw_and_an_evaluation_counts_them(
    pretrained, shards_folder, table, tmp_path
):
    shards = ShardSet(shards_folder)
    found = patients_in(load_encoder(pretrained).meta)
    assert found is not None and len(found) == len(set(shards.patient))
    meta = (pretrained / "checkpoints" / "2" / "meta" / "metadata").read_text()
    assert PATIENTS in meta and not any(f'"{name}"' in meta for name in shards.patient)
    out = tmp_path / "R"
    arguments = ["--table", str(table), "--weights", str(pretrained), "--lead", "II"]
    assert cli.main(["evaluate", *arguments, "--out", str(out), "--workers", "0"]) == 0
    (about,) = json.loads((out / "tasks.json").read_text())
    assert about["overlap"] == {pretrained.name: f"{SHARED} of 20 tested patients"}


@pytest.mark.slow
def test_a_trained_head_has_seen_those_before_and_those_of_its_table(
    pretrained, shards_folder, table, tmp_path
):
    out = tmp_path / "HEAD"
    arguments = ["--table", str(table), "--weights", str(pretrained), "--lead", "II"]
    arguments += ["--out", str(out), "--epochs", "1", "--workers", "0"]
    assert cli.main(["finetune", *arguments]) == 0
    rows = pd.read_csv(table, dtype=str)
    seen = {*ShardSet(shards_folder).patient, *rows["patient"][rows["split"] != "test"]}
    assert len(patients_in(load_head(out).encoder.meta)) == len(seen)
