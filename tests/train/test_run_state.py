"""How far runs are, by what they have written: stored ones, damaged ones, and one that goes on."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from clef_jax.files import locked
from clef_jax.train.pretrain import pretrain
from clef_jax.train.run_state import RunStateError, is_run, read_run_state
from tests.damage import flip_bit
from tests.train.runs import STEPS, assert_same_result, config_of, finish, start, wait_for

FIXTURES = pathlib.Path(__file__).resolve().parents[1] / "fixtures"


@pytest.fixture
def run(tmp_path):
    """The folder of a finished run of four steps, of before runs wrote their record to it."""
    return shutil.copytree(FIXTURES / "format_2" / "run", tmp_path / "run")


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_finished_run_of_an_earlier_release(run):
    assert is_run(run) and not is_run(run / "checkpoints")
    state = read_run_state(run)
    assert (state.holder, state.ended, state.step, state.steps) == (None, "finished", 4, 4)
    assert (state.model, state.method, state.steps_per_epoch) == ("clef_small", "clef", None)
    # As metrics.jsonl stands there: 497, 174, then this; four records a batch.
    assert state.records_per_s == 207.69506045077895
    assert state.steps_per_s == pytest.approx(207.69506045077895 / 4)
    assert state.rates == {"data_wait_frac": 0.0024118588901838184}
    assert state.evaluations == {"validation/loss": (4, 0.37337107956409454)}
    assert state.newest == (run / "checkpoints" / "4", True, None)
    assert state.versions["clef_jax"] == "0.1.0" and state.mesh is None
    older = read_run_state(FIXTURES / "release_0_1_0" / "run")
    assert older.newest[1:] == (False, None) and older.ended == "finished"


def test_a_run_without_a_report_did_not_end_well_and_one_that_is_held_goes_on(run):
    with locked(run / ".lock"):
        state = read_run_state(run)
        assert f"process {os.getpid()} on " in state.holder and state.ended is None
    (run / "summary.json").unlink()
    (run / ".lock.holder").write_text("process 1 on elsewhere, since yesterday\n")  # Killed.
    state = read_run_state(run)
    assert (state.holder, state.ended, state.step) == (None, None, 4)


def test_what_is_known_before_the_first_row_and_the_first_checkpoint(run):
    for name in ("metrics.jsonl", "summary.json"):
        (run / name).unlink()
    shutil.rmtree(run / "checkpoints")
    state = read_run_state(run)
    assert (state.model, state.method, state.step, state.steps) == ("clef_small", "clef", 0, 4)
    assert state.newest is None and state.records_per_s is None and state.evaluations == {}
    change(run / "config.json", steps=0)  # As many as make the epochs, which nobody has written.
    assert read_run_state(run).steps is None


def test_a_state_that_waits_for_its_evaluations_is_the_newest(run):
    waits = run / "unvalidated" / "checkpoints" / "5"
    shutil.copytree(run / "checkpoints" / "4", waits)
    state = read_run_state(run)
    assert state.newest == (waits, True, None) and state.step == 5


def test_a_damaged_checkpoint_is_told_and_all_else_too(run):
    kernel = max((run / "checkpoints/4/params/d").iterdir(), key=lambda path: path.stat().st_size)
    flip_bit(kernel, np.random.default_rng(0))
    state = read_run_state(run)
    assert state.newest.path.name == "4" and str(kernel) in state.newest.fault
    assert (state.model, state.step, state.ended) == ("clef_small", 4, "finished")


@pytest.mark.parametrize("name", ["run.json", "config.json", "summary.json", "metrics.jsonl"])
def test_damage_is_told_by_the_files_name_or_makes_no_difference(run, name):
    record = json.loads((run / "checkpoints/4/meta/metadata").read_text())
    record["config"]["method"] = record["config"].pop("objective")
    shutil.rmtree(run / "checkpoints")
    if name != "config.json":
        (run / "run.json").write_text(json.dumps(record | {"steps": 9, "steps_per_epoch": 3}))
    path, rng, refused = run / name, np.random.default_rng(1), 0
    whole = path.read_bytes()
    assert not is_refused(run, name)
    for content in ("", "[]", "{", "7", '{"config": 3, "step": []}', "\xff", '{"step": "x"}'):
        path.write_text(content, encoding="latin-1")
        refused += is_refused(run, name)
    path.write_bytes(whole)
    for _ in range(150):
        flip_bit(path, rng)
        refused += is_refused(run, name)
        path.write_bytes(whole)
    assert refused >= 5


def is_refused(run, name):
    try:
        read_run_state(run)
    except RunStateError as error:
        assert str(error).startswith(f"{run / name}: damaged (")
        return True
    return False


def test_reading_a_state_loads_no_library_of_checkpoints_or_training():
    code = (
        "import sys, clef_jax.train.run_state\n"
        "found = {'orbax', 'flax', 'optax', 'grain', 'ml_collections'} & set(sys.modules)\n"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_a_live_run_is_told_and_goes_on_as_if_nobody_asked(finished, shards_folder, tmp_path, tiny):
    process = start(shards_folder, tmp_path, checkpoint_steps=1, keep_checkpoints=1)
    wait_for(lambda: is_run(tmp_path), process)
    states = []
    while process.poll() is None:
        states.append(read_run_state(tmp_path))
        time.sleep(0.02)
    finish(process)
    live = [state for state in states if state.holder]
    # While it takes the lock or gives it up, its name is not there.
    names = {state.holder for state in live} - {"another process"}
    assert len(names) == 1 and f"process {process.pid} on " in names.pop()
    assert all(state.newest[1:] == (True, None) for state in states if state.newest)
    assert [s.step for s in states] == sorted(s.step for s in states)
    axes = {"data": 4}
    assert live[0].steps == STEPS
    # At first not: the run's record is written after its configuration.
    assert live[-1].mesh == {"devices": 4, "device_kind": "cpu", "processes": 1, "axes": axes}
    assert live[-1].versions["jax"] == jax.__version__
    assert_same_result(tmp_path, finished)
    state = read_run_state(tmp_path)
    assert (state.holder, state.ended, state.step) == (None, "finished", STEPS)
    assert state.newest == (tmp_path / "checkpoints" / str(STEPS), True, None)
    # Every patient who is not held out is in an epoch once, in batches of eight.
    patients = json.loads((tmp_path / "summary.json").read_text())["training_patients"]
    assert state.steps_per_epoch == patients // 8


@pytest.mark.slow
def test_a_killed_run_has_ended_without_a_report(shards_folder, tmp_path, tiny):
    pretrain(config_of(steps=4), shards_folder, tmp_path)
    assert read_run_state(tmp_path).ended == "finished"
    process = start(shards_folder, tmp_path, steps=2000)
    wait_for(lambda: read_run_state(tmp_path).step > 6, process)
    assert read_run_state(tmp_path).holder is not None
    process.kill()
    process.communicate()
    state = read_run_state(tmp_path)
    assert (state.holder, state.ended, state.steps) == (None, None, 2000) and state.step > 6
