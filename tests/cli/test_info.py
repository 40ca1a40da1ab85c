"""`clef-jax info` of a run: how far it is; its weights, by a hash instead of a fingerprint."""

import pathlib
import shutil

import numpy as np
import pytest

from clef_jax.checkpoints.encoder import save_encoder
from clef_jax.checkpoints.items import params_sha256
from clef_jax.cli import main as cli
from clef_jax.files import locked
from clef_jax.inference import encoder_meta
from tests.damage import flip_bit
from tests.embed_runs import TINY, tiny_encoder

FIXTURES = pathlib.Path(__file__).resolve().parents[1] / "fixtures"


def test_weights_of_a_run_are_compared_with_its_hash(tmp_path, capsys):
    params = tiny_encoder().params
    meta = encoder_meta(TINY, params, {})
    del meta["fingerprint"]
    for name, sha256 in (("run", params_sha256(params)), ("changed", "0" * 64)):
        save_encoder(tmp_path / name, params, meta | {"weights_sha256": sha256})
    assert cli.main(["info", str(tmp_path / "run")]) == 0
    said = "weights: as the run saved them, by their SHA-256; fingerprint ["
    assert said in capsys.readouterr().out
    assert cli.main(["info", str(tmp_path / "changed")]) == 1
    assert "they are not those that the run saved" in capsys.readouterr().err


@pytest.fixture
def run(tmp_path):
    return shutil.copytree(FIXTURES / "format_2" / "run", tmp_path / "run")


def lines_of(capsys):
    return capsys.readouterr().out.splitlines()


def test_a_run_is_told_before_its_encoder(run, capsys):
    with (run / "metrics.jsonl").open("a") as rows:
        rows.write('{"step": 5, "perf/data_wait_frac": 0.25, "perf/slowest_host": 1}\n')
    summary = run / "summary.json"
    summary.write_text(summary.read_text().replace('"steps": 4', '"steps": 1200'))
    with locked(run / ".lock"):
        assert cli.main(["info", str(run)]) == 0
    lines = lines_of(capsys)
    assert lines[0] == "run: clef_small by clef"
    assert lines[1].startswith("status: runs: process ")
    assert lines[2:7] == [
        "step: 5 of 1,200",
        "rate: 207.7 records/s, 51.92 steps/s, data_wait_frac 0.25, slowest_host 1",
        # 1,195 steps, 4 records each.
        "left: 0:00:23 at this rate, without evaluations and checkpoints",
        "validation/loss: 0.3734 at step 4",
        "checkpoint: checkpoints/4, whole by its checksums",
    ]
    assert lines[7].startswith('versions: {"clef_jax": "0.1.0", ')
    assert lines[8] == "clef_small: 350 parameters, 8-d embedding"


def test_a_damaged_checkpoint_of_a_run_is_an_error(run, capsys):
    kernel = max((run / "checkpoints/4/params/d").iterdir(), key=lambda path: path.stat().st_size)
    flip_bit(kernel, np.random.default_rng(0))
    assert cli.main(["info", str(run)]) == 1
    said = capsys.readouterr()
    assert "status: finished" in said.out and "checkpoint: checkpoints/4, damaged" in said.out
    assert f"{kernel}: its content differs" in said.err


def test_the_only_state_may_wait_for_its_evaluations(run, capsys):
    (run / "checkpoints").rename(run / "unvalidated")
    waits = run / "unvalidated" / "checkpoints"
    shutil.copytree(run / "unvalidated" / "4", waits / "4")
    assert cli.main(["info", str(run)]) == 0
    assert "checkpoint: unvalidated/checkpoints/4, whole by its checksums" in lines_of(capsys)


def test_a_run_without_checkpoints_is_no_error_and_an_empty_folder_is(run, tmp_path, capsys):
    shutil.rmtree(run / "checkpoints")
    (run / "summary.json").unlink()
    assert cli.main(["info", str(run)]) == 0
    lines = lines_of(capsys)
    assert lines[1] == "status: ended without a report, by an error or killed"
    assert lines[-1] == "checkpoint: none yet"
    (tmp_path / "empty").mkdir()
    assert cli.main(["info", str(tmp_path / "empty")]) == 1
    assert "no checkpoint here" in capsys.readouterr().err
    (run / "config.json").write_text("{")
    assert cli.main(["info", str(run)]) == 1
    assert f"{run / 'config.json'}: damaged (" in capsys.readouterr().err
