"""Traces of a run's steps: of all that were asked for, or none."""

import signal

import jax
import jax.numpy as jnp
import pytest

from clef_jax.train.metrics import read_metrics
from clef_jax.train.pretrain import pretrain
from clef_jax.train.profile import profiled, steps_to_trace
from clef_jax.train.settings import ConfigError
from tests.train.runs import assert_same_result, config_of, start, wait_for


def steps_in(folder):
    """The steps in the one trace there is, after which it is called."""
    (trace,) = folder.rglob("*.xplane.pb")
    found = [
        dict(event.stats)["step_num"]
        for plane in jax.profiler.ProfileData.from_file(str(trace)).planes
        for line in plane.lines
        for event in line.events
        if event.name == "train"
    ]
    (called,) = folder.iterdir()
    assert called.name == f"{found[0]}-{found[-1] + 1}_process_0"
    return found


def files_in(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def take(folder, steps, *, done, until):
    """Takes the steps of a toy after those done; returns its sum over the batches' numbers."""
    total = jnp.int32(0)
    with profiled(lambda total, batch: (total + batch, {}), steps, folder, done=done) as step:
        for number in range(done + 1, until + 1):
            total, _ = step(total, number)
    return int(total)


def test_the_steps_are_traced_that_were_asked_for_and_once(tmp_path):
    assert take(tmp_path, range(3, 6), done=0, until=8) == sum(range(1, 9))
    assert steps_in(tmp_path) == [3, 4, 5]
    before = {path: path.read_bytes() for path in files_in(tmp_path)}
    take(tmp_path, range(3, 6), done=1, until=8)
    assert {path: path.read_bytes() for path in files_in(tmp_path)} == before


@pytest.mark.parametrize(
    ("steps", "done", "said"),
    [
        (range(3, 6), 5, ""),  # Past them.
        (range(3, 6), 4, "goes on from step 4; let it begin at 6"),
        (range(3, 6), 2, "goes on from step 2; let it begin at 4"),  # As step 3 compiles.
        (range(3, 12), 0, "ended after step 8"),
        (range(0), 0, ""),
    ],
)
def test_there_is_no_trace_of_some_of_them(tmp_path, caplog, steps, done, said):
    assert take(tmp_path, steps, done=done, until=8) == sum(range(done + 1, 9))
    assert not list(tmp_path.iterdir())
    assert said in caplog.text and bool(said) == bool(caplog.text)


def test_a_run_that_fails_within_them_leaves_no_trace(tmp_path):
    with pytest.raises(TypeError), profiled(lambda a, b: a + b, range(2, 5), tmp_path, done=0) as f:
        for batch in (1, 2, None):
            f(1, batch)
    assert not list(tmp_path.iterdir())
    # Nor does it keep another from being written.
    take(tmp_path, range(2, 5), done=0, until=4)
    assert steps_in(tmp_path) == [2, 3, 4]


def test_the_run_must_have_the_steps():
    assert steps_to_trace("2:13", 12) == range(2, 13) and not steps_to_trace("", 12)
    with pytest.raises(ConfigError, match=r"2:14, but the run has 12 steps; .* is 2:13"):
        steps_to_trace("2:14", 12)


@pytest.mark.slow
def test_a_profiled_run_computes_the_same(finished, shards_folder, tmp_path, tiny):
    assert not (finished / "profile").exists()
    pretrain(config_of(profile="11:13"), shards_folder, tmp_path)
    assert steps_in(tmp_path / "profile") == [11, 12]
    assert_same_result(tmp_path, finished)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_is_stopped_within_them_leaves_none_and_goes_on(
    shards_folder, tmp_path, tiny, number
):
    steps = 2000
    process = start(shards_folder, tmp_path, steps=steps, profile=f"3:{steps}")
    metrics = tmp_path / "metrics.jsonl"
    wait_for(lambda: metrics.exists() and len(read_metrics(metrics)) > 2, process)
    process.send_signal(number)
    process.communicate()
    assert not list((tmp_path / "profile").glob("*"))
    done = read_metrics(metrics)[-1]["step"]
    config = config_of(profile=f"{done + 4}:{done + 6}", steps=done + 6)
    assert pretrain(config, shards_folder, tmp_path)["status"] == "finished"
    assert steps_in(tmp_path / "profile") == [done + 4, done + 5]
