"""Runs that are killed or stopped, and go on to the same result, bit for bit."""

import json
import shutil
import signal

import numpy as np
import pytest

from clef_jax.checkpoints.encoder import load_params
from clef_jax.train.pretrain import pretrain
from tests.train.runs import (
    arrays_of_checkpoint,
    assert_same_result,
    config_of,
    finish,
    rates_until,
    rows_without_rates,
    start,
    start_two_processes,
    wait_for,
)
from tests.waiting import children_of, wait_until_gone


def kill_9(process):
    process.kill()
    process.communicate()


@pytest.mark.slow
def test_kill_9_at_any_moment_then_the_same_result(finished, shards_folder, tmp_path):
    workdir = tmp_path / "killed"
    # While compiling or just beyond; then in the middle of the steps, once one is saved.
    process = start(shards_folder, workdir, num_workers=2)
    wait_for(lambda: (workdir / "config.json").exists(), process)
    kill_9(process)
    process = start(shards_folder, workdir, num_workers=2)
    wait_for(lambda: (workdir / "checkpoints" / "4").exists(), process)
    workers = children_of(process)
    kill_9(process)
    wait_until_gone(workers)
    rates = rates_until(workdir, 4)
    pretrain(config_of(), shards_folder, workdir)
    assert_same_result(workdir, finished)
    assert rates_until(workdir, 4) == rates  # Steps 1 to 4 were not computed again.


@pytest.mark.slow
def test_sigterm_saves_and_exits_0_and_the_run_goes_on(finished, shards_folder, tmp_path):
    workdir = tmp_path / "terminated"
    metrics = workdir / "metrics.jsonl"
    process = start(shards_folder, workdir)
    wait_for(lambda: metrics.exists() and metrics.stat().st_size > 0, process)
    process.send_signal(signal.SIGTERM)
    finish(process)
    report = json.loads((workdir / "summary.json").read_text())
    assert report["status"] == "interrupted"
    step = report["step"]
    saved = workdir if step % 6 else workdir / "unvalidated"
    assert (saved / "checkpoints" / str(step)).is_dir()
    rates = rates_until(workdir, step)
    pretrain(config_of(), shards_folder, workdir)
    assert_same_result(workdir, finished)
    assert rates_until(workdir, step) == rates


@pytest.mark.slow
def test_two_processes_of_two_devices_equal_one_of_four(tiny, shards_folder, tmp_path):
    alone, together = tmp_path / "alone", tmp_path / "together"
    pretrain(config_of(steps=4), shards_folder, alone)
    finish(*start_two_processes(shards_folder, together, steps=4))
    rows, rows_alone = rows_without_rates(together), rows_without_rates(alone)
    assert len(rows) == len(rows_alone) == 2
    for row, row_alone in zip(rows, rows_alone, strict=True):
        assert row.keys() == row_alone.keys()
        for name in row:
            np.testing.assert_allclose(row[name], row_alone[name], rtol=1e-5, err_msg=name)


@pytest.mark.slow
def test_two_processes_that_split_the_state_equal_one_that_does_not(tiny, shards_folder, tmp_path):
    alone, together = tmp_path / "alone", tmp_path / "together"
    pretrain(config_of(steps=4), shards_folder, alone)
    finish(*start_two_processes(shards_folder, together, steps=4, shard_state=True))
    rows, rows_alone = rows_without_rates(together), rows_without_rates(alone)
    assert len(rows) == len(rows_alone) == 2
    for row, row_alone in zip(rows, rows_alone, strict=True):
        assert row.keys() == row_alone.keys()
        for name in row:
            np.testing.assert_allclose(row[name], row_alone[name], rtol=1e-4, err_msg=name)
    # What it saved is an encoder like any other, and goes on elsewhere in the other form.
    arrays, expected = (arrays_of_checkpoint(workdir, 4) for workdir in (together, alone))
    assert arrays.keys() == expected.keys()
    for name in arrays:
        np.testing.assert_allclose(arrays[name], expected[name], atol=1e-4, err_msg=name)
    load_params(together)
    report = pretrain(config_of(steps=6, shard_state=False), shards_folder, together)
    assert (report["status"], report["step"]) == ("finished", 6)


@pytest.mark.slow
def test_two_processes_stop_together_and_go_on_to_the_same_result(shards_folder, tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    steps = 100
    finish(*start_two_processes(shards_folder, whole, steps=steps))
    processes = start_two_processes(shards_folder, stopped, steps=steps)
    metrics = stopped / "metrics.jsonl"
    wait_for(lambda: metrics.exists() and metrics.stat().st_size > 0, processes[0])
    processes[1].send_signal(signal.SIGTERM)
    finish(*processes)
    assert json.loads((stopped / "summary.json").read_text())["status"] == "interrupted"
    finish(*start_two_processes(shards_folder, stopped, steps=steps))
    assert_same_result(stopped, whole, step=steps)


@pytest.mark.slow
@pytest.mark.parametrize("shard_state", [False, True])
def test_a_run_of_two_hosts_goes_on_elsewhere_with_the_same_losses(
    shards_folder, tmp_path, shard_state
):
    settings = {f"evaluators__{name}": -1 for name in ("validation", "probe", "map")}
    settings |= {"steps": 8, "log_steps": 1, "shard_state": shard_state}
    hosts = tmp_path / "hosts"
    finish(*start_two_processes(shards_folder, hosts, **settings))
    rows = rows_without_rates(hosts)
    assert [row["step"] for row in rows] == list(range(1, 9))
    shutil.rmtree(hosts / "checkpoints" / "8")
    for devices in (4, 1):
        elsewhere = shutil.copytree(hosts, tmp_path / str(devices))
        finish(start(shards_folder, elsewhere, devices=devices, **settings))
        found = rows_without_rates(elsewhere)
        assert found[:4] == rows[:4] and len(found) == 8
        losses, expected = ([row["train/loss"] for row in all_rows] for all_rows in (found, rows))
        np.testing.assert_allclose(losses, expected, rtol=0, atol=1e-6)
