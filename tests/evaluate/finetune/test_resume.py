"""A fine-tuning that is stopped or killed goes on to the same result, bit for bit."""

import os
import pathlib
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from clef_jax.evaluate.finetune import load_head, training
from clef_jax.train.metrics import read_metrics
from tests.evaluate.finetune.cohort import LONG, SHORT
from tests.evaluate.finetune.killed import fine_tune
from tests.waiting import wait_for

ROOT = pathlib.Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder, fine_tune(folder, SHORT)


def rows_without_rates(folder):
    rows = read_metrics(folder / "seed3" / "metrics.jsonl")
    return [{k: v for k, v in row.items() if not k.startswith("perf/")} for row in rows]


def assert_same(folder, result, undisturbed):
    other, expected = undisturbed
    assert result.predictions.equals(expected.predictions)
    params = [jax.device_get(load_head(found.best).params) for found in (result, expected)]
    jax.tree.map(np.testing.assert_array_equal, *params)
    assert rows_without_rates(folder) == rows_without_rates(other)


def newest_step(folder):
    steps = [int(path.name) for path in folder.glob("seed3/checkpoints/*") if path.name.isdigit()]
    return max(steps, default=0)


class Crash(Exception):
    """What no one expects."""


def test_a_crash_in_a_step_then_the_same_result(undisturbed, tmp_path, monkeypatch):
    """In the second epoch, after a checkpoint within it."""
    steps = training.Loop.run

    def crashing(loop, state, progress, unvalidated):
        def train_step(state, batch):
            if int(state.step) + 1 == 9:
                raise Crash
            return loop.train_step(state, batch)

        changed = {**vars(loop), "train_step": train_step, "checkpoint_steps": 4}
        return steps(training.Loop(**changed), state, progress, unvalidated)

    with monkeypatch.context() as patch:
        patch.setattr(training.Loop, "run", crashing)
        with pytest.raises(Crash):
            fine_tune(tmp_path, SHORT)
    assert newest_step(tmp_path) == 8
    assert_same(tmp_path, fine_tune(tmp_path, SHORT), undisturbed)


@pytest.mark.slow
def test_a_signal_saves_and_the_same_call_goes_on(undisturbed, tmp_path, monkeypatch):
    read = training.read_ahead

    def signalling(*arguments, **options):
        batches = read(*arguments, **options)

        class Batches:
            def __iter__(self):
                return self

            def __next__(self):
                count.append(1)
                if len(count) == 7:
                    os.kill(os.getpid(), signal.SIGTERM)
                return next(batches)

            def close(self):
                batches.close()

        return Batches()

    count = []
    monkeypatch.setattr(training, "read_ahead", signalling)
    with pytest.raises(KeyboardInterrupt):
        fine_tune(tmp_path, SHORT)
    assert (tmp_path / "seed3" / "checkpoints" / "7").is_dir()
    assert_same(tmp_path, fine_tune(tmp_path, SHORT), undisturbed)


@pytest.mark.slow
def test_kill_9_then_the_same_result(tmp_path):
    folder, whole_folder = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-m", "tests.evaluate.finetune.killed", str(folder)]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "4", "PYTHONPATH": str(ROOT)}
    for epochs in (1, 2):
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        wait_for(
            lambda epochs=epochs: newest_step(folder) >= 5 * epochs,
            meanwhile=lambda process=process: process.poll() is None,
        )
        process.kill()
        process.wait()
        assert not (folder / "seed3" / "head").exists()
    whole = fine_tune(whole_folder, LONG)
    assert_same(folder, fine_tune(folder, LONG), (whole_folder, whole))
