"""Whole runs: what they leave, what they start from, what is refused without a trace."""

import json
import os
import re
import shutil

import jax
import numpy as np
import pytest

from clef_jax.checkpoints.encoder import load_params, save_encoder
from clef_jax.checkpoints.meta import CheckpointError
from clef_jax.checkpoints.patients import patient_hashes, patients_in, with_patients
from clef_jax.checkpoints.run import Checkpoints
from clef_jax.data.shards.store import ShardSet
from clef_jax.files import locked
from clef_jax.stores import StoreError
from clef_jax.train.metrics import read_metrics
from clef_jax.train.pretrain import pretrain
from clef_jax.train.recorder import NonFiniteLoss
from clef_jax.train.workdir import WorkdirInUse
from tests.damage import flip_bit
from tests.oracles.specs import SPEC_VERSION_1
from tests.train.runs import STEPS, config_of


@pytest.mark.slow
def test_a_run_leaves_what_it_should(finished, tiny):
    report = json.loads((finished / "summary.json").read_text())
    assert report["status"] == "finished" and report["step"] == STEPS
    params, meta = load_params(finished / "checkpoints" / str(STEPS))
    assert report["parameters"] == sum(leaf.size for leaf in jax.tree.leaves(params))
    rows = read_metrics(finished / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(2, STEPS + 1, 2))
    for name in ("validation/loss", "probe/effective_rank"):
        assert [row["step"] for row in rows if name in row] == [6, 12]
    for name in ("loss", "grad_norm", "known_risk", "alignment", "uniformity", "learning_rate"):
        assert all(np.isfinite(row[f"train/{name}"]) for row in rows)
    for name in ("loss", "embedding_map"):
        assert (finished / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((finished / "config.json").read_text()) == meta["config"]
    assert meta["config"]["batch_size"] == 8
    kept = {path.name for path in (finished / "checkpoints").iterdir() if path.name.isdigit()}
    assert kept >= {"6", "8", "12"}
    # Fifteen patients are held out, and batches of eight compare them, whatever the devices.
    assert meta["validation"] == {"patients": 15, "batch_size": 8, "batches": 2, "seen_twice": 1}


@pytest.mark.slow
def test_a_second_run_in_a_workdir_is_refused_and_names_the_first(finished, shards_folder):
    before = (finished / "summary.json").read_bytes()
    expected = f"{finished}: another run is there (process {os.getpid()} on "
    with locked(finished / ".lock"), pytest.raises(WorkdirInUse, match=re.escape(expected)):
        pretrain(config_of(), shards_folder, finished)
    assert (finished / "summary.json").read_bytes() == before


@pytest.mark.slow
def test_a_run_that_has_ended_stays_as_it_is(finished, shards_folder):
    before = (finished / "metrics.jsonl").read_bytes()
    report = json.loads((finished / "summary.json").read_text())
    assert pretrain(config_of(), shards_folder, finished) == report
    assert (finished / "metrics.jsonl").read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"log_steps": 0}, "config.log_steps is 0"),
        ({"seed": 7}, "config.seed was 42 and is 7"),
        ({"schedule": "warmup_cosine"}, "config.schedule was 'warm_restarts'"),
        ({"model": "clef_medium"}, "config.model was 'clef_small' and is 'clef_medium'"),
        ({"method__preset": "paper"}, "config.method.weighting was 'softmax' and is 'direct'"),
        ({"method__combine": "sum"}, "config.method.combine was 'mean' and is 'sum'. Set"),
        ({"method__name": "simclr"}, "config.method.name was 'clef' and is 'simclr'"),
        ({"batch_size": 6}, "batch_size 6 does not divide by 4 devices; use 4 or 8"),
        ({"batch_size": 64}, "training patients cannot fill a batch of 64"),
        ({"validation_fraction": 0.0, "patience": 1}, "0 validation patients are too few"),
    ],
)
def test_what_cannot_be_run_is_refused_and_nothing_is_lost(
    finished, shards_folder, values, message
):
    def content():
        files = sorted(path for path in finished.rglob("*") if path.is_file())
        return {path: path.read_bytes() for path in files if path.suffix in (".json", ".jsonl")}

    before = content()
    with pytest.raises(ValueError, match=re.escape(message)):
        pretrain(config_of(**values), shards_folder, finished)
    assert content() == before


def test_a_workdir_in_a_store_that_is_not_known_is_refused(shards_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match="s3://bucket/run: Orbax and ArrayRecord know no such"):
        pretrain(config_of(), shards_folder, "s3://bucket/run")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_refused_run_closes_what_it_has_opened(finished, shards_folder, tmp_path, monkeypatch):
    """Both folders of states: the checkpoints, and the state that a signal left unvalidated."""
    workdir = shutil.copytree(finished, tmp_path / "run")
    (workdir / "unvalidated" / "checkpoints").mkdir(parents=True)
    (workdir / "checkpoints" / "12").rename(workdir / "unvalidated" / "checkpoints" / "12")
    opened, closed = [], []
    init, close = Checkpoints.__init__, Checkpoints.close
    monkeypatch.setattr(
        Checkpoints, "__init__", lambda self, *a, **k: [init(self, *a, **k), opened.append(self)][0]
    )
    monkeypatch.setattr(Checkpoints, "close", lambda self: [close(self), closed.append(self)][0])
    with pytest.raises(ValueError, match="config.seed was 42 and is 7"):
        pretrain(config_of(seed=7), shards_folder, workdir)
    assert len(opened) == 2 and set(opened) == set(closed)
    opened.clear(), closed.clear()
    (newest,) = (workdir / "unvalidated" / "checkpoints" / "12").glob("rest/manifest.ocdbt")
    for step in (workdir / "checkpoints").iterdir():
        shutil.rmtree(step)
    flip_bit(newest, np.random.default_rng(0))
    with pytest.raises(CheckpointError, match="every checkpoint is damaged"):
        pretrain(config_of(), shards_folder, workdir)
    assert len(opened) == 1 and opened == closed


@pytest.mark.slow
def test_a_non_finite_loss_names_step_records_and_checkpoint(tiny, shards_folder, tmp_path):
    config = config_of(learning_rate=1e30, checkpoint_steps=1)
    with pytest.raises(NonFiniteLoss) as error:
        pretrain(config, shards_folder, tmp_path)
    report = json.loads((tmp_path / "nonfinite.json").read_text())
    assert f"at step {report['step']};" in str(error.value)
    assert len(report["records"]) == 8 and report["records"][0] in str(error.value)
    good = tmp_path / "checkpoints" / str(report["step"] - 1)
    assert str(error.value).endswith(f"last good checkpoint: {good}")
    params, _ = load_params(good)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


@pytest.mark.slow
def test_early_stopping_ends_the_run_and_it_stays_ended(tiny, shards_folder, tmp_path):
    # At a learning rate of zero no evaluation is better than the first.
    config = config_of(
        learning_rate=0.0, ema_decay=None, patience=2, steps=50, evaluators__validation=1
    )
    report = pretrain(config, shards_folder, tmp_path)
    assert report["status"] == "stopped early"
    assert (report["best_step"], report["step"]) == (1, 3)
    assert (tmp_path / "plots" / "embedding_map.png").exists()
    assert pretrain(config, shards_folder, tmp_path) == report


@pytest.mark.slow
def test_losses_of_other_batches_are_no_best_and_do_not_end_a_run(
    finished, shards_folder, tmp_path
):
    """Release 0.1.0 noted nothing of its validation batches, which were others."""
    workdir = shutil.copytree(finished, tmp_path / "run")
    for step in (workdir / "checkpoints").iterdir():
        meta = json.loads((step / "meta" / "metadata").read_text())
        del meta["validation"], meta["format_version"]
        meta["progress"] = {"best_loss": -9.0, "best_step": 6, "evaluations_since_best": 3}
        (step / "meta" / "metadata").write_text(json.dumps(meta))
        (step / "SHA256SUMS").unlink()
    assert load_params(workdir)[1]["progress"]["best_step"] == 6
    config = config_of(steps=20, patience=3)
    report = pretrain(config, shards_folder, workdir)
    assert report["status"] == "finished" and report["step"] == 20
    losses = {
        row["step"]: row.get("validation/loss") for row in read_metrics(workdir / "metrics.jsonl")
    }
    assert report["best_step"] in (18, 20)
    assert report["best_validation_loss"] == losses[report["best_step"]]
    assert (
        load_params(workdir)[1]["weights_sha256"]
        == (load_params(workdir / "checkpoints" / str(report["best_step"]))[1]["weights_sha256"])
    )


@pytest.mark.slow
def test_a_run_starts_from_an_encoders_weights(finished, shards_folder, tmp_path):
    config = config_of(init=str(finished), learning_rate=0.0, ema_decay=None, steps=2)
    pretrain(config, shards_folder, tmp_path / "run")
    expected, _ = load_params(finished)
    found, meta = load_params(tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert meta["init"]["path"] == str(finished)
    with pytest.raises(ValueError, match="holds clef_small, but config.model is clef_medium"):
        pretrain(config_of(init=str(finished), model="clef_medium"), shards_folder, tmp_path / "m")


@pytest.mark.slow
@pytest.mark.parametrize("before", [None, {"somebody else"}])
def test_a_run_has_seen_whom_its_first_weights_had_seen(finished, shards_folder, tmp_path, before):
    """Or does not say, where they do not: also once it has gone on."""
    params, meta = load_params(finished)
    here = set(ShardSet(shards_folder).patient)
    assert patients_in(meta) == patient_hashes(here)
    hashes = None if before is None else patient_hashes(before)
    save_encoder(tmp_path / "encoder", params, with_patients(meta, hashes))
    for steps in (1, 2):
        config = config_of(init=str(tmp_path / "encoder"), ema_decay=None, steps=steps)
        assert pretrain(config, shards_folder, tmp_path / "run")["step"] == steps
        seen = patients_in(load_params(tmp_path / "run" / "checkpoints" / str(steps))[1])
        assert seen == (None if before is None else patient_hashes(here | before))


@pytest.mark.slow
def test_shards_of_an_older_preprocessing_train_and_are_recorded(finished, shards_folder, tmp_path):
    older = shutil.copytree(shards_folder, tmp_path / "shards")
    manifest = json.loads((older / "manifest.json").read_text())
    manifest["preprocessing"] = SPEC_VERSION_1
    del manifest["sha256"], manifest["clef_jax"]  # As of release 0.1.0.
    (older / "manifest.json").write_text(json.dumps(manifest))
    config = config_of(init=str(finished), ema_decay=None, steps=2)
    report = pretrain(config, older, tmp_path / "run")
    assert load_params(tmp_path / "run")[1]["preprocessing"] == SPEC_VERSION_1
    assert pretrain(config, older, tmp_path / "run")["step"] == report["step"] == 2
    # An encoder of either version starts a run on shards of the other.
    config.init = str(tmp_path / "run")
    pretrain(config, shards_folder, tmp_path / "again")
