"""Whole runs through the command line: killed, stopped, on several processes, refused."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from clef_jax.checkpoints.encoder import load_params
from clef_jax.files import locked
from clef_jax.train.loop import pretrain
from clef_jax.train.metrics import read_metrics
from clef_jax.train.recorder import NonFiniteLoss
from configs import demo
from tests.oracles.specs import SPEC_VERSION_1
from tests.waiting import children_of, wait_until_gone

ROOT = pathlib.Path(__file__).resolve().parents[2]
STEPS = 12


SETTINGS = {
    "steps": STEPS,
    "batch_size": 8,
    "log_steps": 2,
    "eval_steps": 6,
    "checkpoint_steps": 4,
    "schedule": "warm_restarts",
    "ema_decay": 0.9,
}


def config_of(**values):
    config = demo.get_config()
    config.update_from_flattened_dict(SETTINGS | values)
    return config


def command(shards, workdir, *options, **values):
    return [
        sys.executable,
        str(ROOT / "tools" / "pretrain.py"),
        f"--config={ROOT / 'configs' / 'demo.py'}",
        f"--shards={shards}",
        f"--workdir={workdir}",
        *(f"--config.{key}={value}" for key, value in (SETTINGS | values).items()),
        *options,
    ]


def environment(devices):
    return os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "PYTHONUNBUFFERED": "1"}


def run(*args, devices=1, **kwargs):
    return subprocess.run(
        command(*args, **kwargs), env=environment(devices), capture_output=True, text=True
    )


def start(*args, devices=1, **kwargs):
    return subprocess.Popen(
        command(*args, **kwargs),
        env=environment(devices),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(condition, process, seconds=180):
    deadline = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"the run ended or hung too early:\n{process.communicate()[0][-3000:]}")
        time.sleep(0.02)


def kill_9(process):
    process.kill()
    process.communicate()


def rows_without_rates(workdir):
    rows = read_metrics(workdir / "metrics.jsonl")
    return [{k: v for k, v in row.items() if not k.startswith("perf/")} for row in rows]


def rates_until(workdir, step):
    """What the clock measured up to a step: never the same if the steps ran again."""
    rows = read_metrics(workdir / "metrics.jsonl")
    rates = [row["perf/records_per_s"] for row in rows if row["step"] <= step]
    assert rates
    return rates


def arrays_of_checkpoint(workdir, step, item):
    """Every array of one item of a checkpoint, by path."""
    tree = ocp.StandardCheckpointer().restore(workdir / "checkpoints" / str(step) / item)
    found = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in found}


def assert_same_result(workdir, other, step=STEPS):
    for item in ("encoder", "ema", "rest"):
        arrays, expected = (arrays_of_checkpoint(w, step, item) for w in (workdir, other))
        assert arrays.keys() == expected.keys() and arrays
        for name in arrays:
            np.testing.assert_array_equal(arrays[name], expected[name], err_msg=name)
    assert rows_without_rates(workdir) == rows_without_rates(other)


@pytest.fixture(scope="module")
def finished(shards_folder, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "uninterrupted"
    result = run(shards_folder, workdir)
    assert result.returncode == 0, result.stderr[-3000:]
    return workdir


def test_a_run_leaves_what_it_should(finished):
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["status"] == "finished" and summary["step"] == STEPS
    assert summary["parameters"] == 443_184
    rows = read_metrics(finished / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(2, STEPS + 1, 2))
    assert [row["step"] for row in rows if "validation/loss" in row] == [6, 12]
    for name in ("loss", "grad_norm", "known_risk", "alignment", "uniformity", "learning_rate"):
        assert all(np.isfinite(row[f"train/{name}"]) for row in rows)
    assert (finished / "plots" / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert (finished / "plots" / "embedding_map.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((finished / "config.json").read_text())["batch_size"] == 8
    kept = {path.name for path in (finished / "checkpoints").iterdir() if path.name.isdigit()}
    assert kept >= {"6", "8", "12"}


def test_kill_9_at_any_moment_then_the_same_result(finished, shards_folder, tmp_path):
    workdir = tmp_path / "killed"
    process = start(shards_folder, workdir, num_workers=2)
    # While compiling or just beyond; then in the middle of the steps, once one is saved.
    wait_for(lambda: (workdir / "config.json").exists(), process)
    kill_9(process)
    process = start(shards_folder, workdir, num_workers=2)
    wait_for(lambda: (workdir / "checkpoints" / "4").exists(), process)
    workers = children_of(process)
    kill_9(process)
    wait_until_gone(workers)
    rates = rates_until(workdir, 4)
    result = run(shards_folder, workdir)
    assert result.returncode == 0, result.stderr[-3000:]
    assert_same_result(workdir, finished)
    assert rates_until(workdir, 4) == rates  # Steps 1 to 4 were not computed again.


def test_sigterm_saves_and_exits_0_and_the_run_goes_on(finished, shards_folder, tmp_path):
    workdir = tmp_path / "terminated"
    process = start(shards_folder, workdir)
    metrics = workdir / "metrics.jsonl"
    wait_for(lambda: metrics.exists() and metrics.stat().st_size > 0, process)
    process.send_signal(signal.SIGTERM)
    output = process.communicate()[0]
    assert process.returncode == 0, output[-3000:]
    summary = json.loads((workdir / "summary.json").read_text())
    assert summary["status"] == "interrupted"
    step = summary["step"]
    evaluates = step % SETTINGS["eval_steps"] == 0
    saved = workdir / "unvalidated" if evaluates else workdir
    assert (saved / "checkpoints" / str(step)).is_dir()
    rates = rates_until(workdir, summary["step"])
    result = run(shards_folder, workdir)
    assert result.returncode == 0, result.stderr[-3000:]
    assert_same_result(workdir, finished)
    assert rates_until(workdir, summary["step"]) == rates


@pytest.mark.slow
def test_sigterm_at_an_evaluation_saves_and_the_next_run_makes_it_up(shards_folder, tmp_path):
    values = {"eval_steps": 1, "steps": 6}
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    expected = pretrain(config_of(**values), shards_folder, whole)
    process = start(shards_folder, stopped, devices=4, **values)
    metrics = stopped / "metrics.jsonl"
    wait_for(lambda: metrics.exists() and metrics.stat().st_size > 0, process)
    process.send_signal(signal.SIGTERM)
    output = process.communicate()[0]
    assert process.returncode == 0, output[-3000:]
    step = json.loads((stopped / "summary.json").read_text())["step"]
    assert (stopped / "unvalidated" / "checkpoints" / str(step)).is_dir()
    assert not (stopped / "checkpoints" / str(step)).exists()
    last = read_metrics(metrics)[-1]
    assert last["step"] == step and "validation/loss" not in last

    summary = pretrain(config_of(**values), shards_folder, stopped)
    assert_same_result(stopped, whole, step=6)
    assert summary | {"records_per_s": 0} == expected | {"records_per_s": 0}
    assert not (stopped / "unvalidated").exists()
    assert (stopped / "checkpoints" / str(expected["best_step"])).is_dir()


def test_a_second_run_in_a_workdir_is_refused_and_names_the_first(finished, shards_folder):
    before = (finished / "summary.json").read_bytes()
    with locked(finished / ".lock"):
        result = run(shards_folder, finished)
    assert result.returncode == 1
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("pretrain: ")]
    assert f"{finished}: another pretraining runs there (process {os.getpid()} on " in line
    assert (finished / "summary.json").read_bytes() == before


def test_validation_does_not_depend_on_the_devices_and_is_recorded(finished):
    """Fifteen patients are held out, and batches of eight compare them."""
    expected = {"patients": 15, "batch_size": 8, "batches": 2, "seen_twice": 1}
    _, meta = load_params(finished)
    assert meta["validation"] == expected


def start_two_processes(shards, workdir, **values):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [
        start(
            shards,
            workdir,
            f"--coordinator=127.0.0.1:{port}",
            "--processes=2",
            f"--process={number}",
            devices=2,
            **values,
        )
        for number in (0, 1)
    ]


def finish(processes):
    outputs = [process.communicate()[0] for process in processes]
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output[-3000:]


@pytest.mark.slow
def test_two_processes_of_two_devices_equal_one_of_four(shards_folder, tmp_path):
    alone, together = tmp_path / "alone", tmp_path / "together"
    finish([start(shards_folder, alone, devices=4, steps=4)])
    finish(start_two_processes(shards_folder, together, steps=4))
    rows, rows_alone = rows_without_rates(together), rows_without_rates(alone)
    assert len(rows) == len(rows_alone) == 2
    for row, row_alone in zip(rows, rows_alone, strict=True):
        for name in row:
            np.testing.assert_allclose(row[name], row_alone[name], rtol=1e-5, err_msg=name)


@pytest.mark.slow
def test_two_processes_stop_together_and_go_on_to_the_same_result(shards_folder, tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    finish(start_two_processes(shards_folder, whole, steps=60))
    processes = start_two_processes(shards_folder, stopped, steps=60)
    metrics = stopped / "metrics.jsonl"
    wait_for(lambda: metrics.exists() and metrics.stat().st_size > 0, processes[0])
    processes[1].send_signal(signal.SIGTERM)
    finish(processes)
    assert json.loads((stopped / "summary.json").read_text())["status"] == "interrupted"
    finish(start_two_processes(shards_folder, stopped, steps=60))
    assert_same_result(stopped, whole, step=60)


@pytest.mark.slow
def test_a_non_finite_loss_names_step_records_and_checkpoint(shards_folder, tmp_path):
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
def test_early_stopping_ends_the_run_and_it_stays_ended(shards_folder, tmp_path):
    # At a learning rate of zero no evaluation is better than the first.
    config = config_of(learning_rate=0.0, ema_decay=None, patience=2, eval_steps=1, steps=50)
    summary = pretrain(config, shards_folder, tmp_path)
    assert summary["status"] == "stopped early"
    assert (summary["best_step"], summary["step"]) == (1, 3)
    assert pretrain(config, shards_folder, tmp_path) == summary


@pytest.mark.slow
def test_a_run_starts_from_an_encoders_weights(finished, shards_folder, tmp_path):
    config = config_of(init=str(finished), learning_rate=0.0, ema_decay=None, steps=2)
    pretrain(config, shards_folder, tmp_path)
    expected, meta = load_params(finished)
    found, _ = load_params(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    with pytest.raises(ValueError, match="holds clef_small, but config.model is clef_medium"):
        pretrain(config_of(init=str(finished), model="clef_medium"), shards_folder, tmp_path / "m")


@pytest.mark.slow
def test_shards_of_an_older_preprocessing_train_and_are_recorded(finished, shards_folder, tmp_path):
    older = shutil.copytree(shards_folder, tmp_path / "shards")
    manifest = json.loads((older / "manifest.json").read_text())
    manifest["preprocessing"] = SPEC_VERSION_1
    (older / "manifest.json").write_text(json.dumps(manifest))
    config = config_of(init=str(finished), ema_decay=None, steps=2)
    summary = pretrain(config, older, tmp_path / "run")
    assert load_params(tmp_path / "run")[1]["preprocessing"] == SPEC_VERSION_1
    assert pretrain(config, older, tmp_path / "run")["step"] == summary["step"] == 2
    # An encoder of either version starts a run on shards of the other.
    config.init = str(tmp_path / "run")
    pretrain(config, shards_folder, tmp_path / "again")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"log_steps": 0}, "config.log_steps is 0"),
        ({"dtype": "bf16"}, "choose float32 or bfloat16"),
        ({"model": "clef_tiny"}, "choose one of clef_small, clef_medium, clef_large"),
        ({"seed": 7}, "config.seed was 42 and is 7"),
        ({"schedule": "warmup_cosine"}, "config.schedule was 'warm_restarts'"),
        ({"model": "clef_medium"}, "config.model was 'clef_small' and is 'clef_medium'"),
        ({"method.preset": "paper"}, "config.method.weighting was 'softmax' and is 'direct'"),
        ({"method.combine": "sum"}, "config.method.combine was 'mean' and is 'sum'. Set"),
        ({"method.name": "simclr"}, "config.method.name was 'clef' and is 'simclr'"),
        ({"method.name": "clip"}, "config.method.name is 'clip'; choose one of clef, simclr"),
        ({"method.preset": "new"}, "choose one of released, paper"),
        ({"schedule": "flat"}, "choose warm_restarts or warmup_cosine"),
        ({"batch_size": 6}, "batch_size 6 does not divide by 4 devices; use 4 or 8"),
        ({"batch_size": 64}, "training patients cannot fill a batch of 64"),
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


def test_an_unknown_configuration_key_is_refused_with_a_suggestion(shards_folder, tmp_path):
    result = run(shards_folder, tmp_path / "run", **{"learning_rat": 1})
    assert result.returncode != 0
    assert "learning_rate" in result.stderr
    assert not (tmp_path / "run").exists()
