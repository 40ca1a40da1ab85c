"""Processes that begin with different things, and what they say of it."""

import json
import shutil

import numpy as np
import pytest
import scipy.io

from clef_jax.cluster.agreement import agreement, odd_ones
from clef_jax.data.noise.recorded import MAT_KEYS
from tests.train.runs import start_two_processes

BASE = {"config": {"seed": 0, "method": {"name": "clef"}}, "noise": "a" * 64}


def test_alone_one_agrees_with_oneself():
    with agreement() as found:
        found["seed"] = 1
    with pytest.raises(ZeroDivisionError), agreement():
        raise ZeroDivisionError


def test_who_found_the_same_is_not_odd():
    assert odd_ones({f"process {n}": BASE for n in range(3)}) == []


def test_the_few_are_odd_in_what_they_found_otherwise():
    other = json.loads(json.dumps(BASE))
    other["config"]["seed"] = 7
    other["config"]["tune"] = True
    found = {"process 0 on a": other, "process 1 on b": BASE, "process 2 on c": BASE}
    assert odd_ones(found) == [
        "process 0 on a has config.seed 7 where others have 0, "
        "config.tune true where others have null"
    ]
    # Of two, process 0 is right.
    del found["process 2 on c"]
    assert odd_ones(found) == [
        "process 1 on b has config.seed 0 where others have 7, "
        "config.tune null where others have true"
    ]


def test_hashes_that_begin_alike_are_told_apart():
    found = {str(n): {"noise": "a" * 63 + str(n)} for n in range(2)}
    (phrase,) = odd_ones(found)
    first, second = phrase.removeprefix("1 has noise ").split(" where others have ")
    assert first != second and first.startswith('"aaaaaaa… (')


def outcome(processes):
    """Returns the last line of each process, which must be all that it says besides warnings."""
    outputs = [process.communicate(timeout=600)[0] for process in processes]
    assert [process.returncode for process in processes] == [1, 1], outputs
    assert not any("Traceback" in output or "F1" in output for output in outputs), outputs
    return [output.strip().splitlines()[-1] for output in outputs]


@pytest.mark.slow
def test_hosts_with_other_settings_and_noise_of_their_own_are_told(shards_folder, tmp_path):
    sines = np.sin(np.arange(20_000) / 20 * np.arange(1, 16)[:, None])
    for number in (0, 1):
        noise = dict.fromkeys(MAT_KEYS.values(), sines * (1 + number / 100))
        scipy.io.savemat(tmp_path / f"{number}.mat", noise)
    processes = start_two_processes(
        shards_folder,
        tmp_path / "run",
        changes=[{"noise": tmp_path / f"{n}.mat", "seed": 5 + 2 * n} for n in (0, 1)],
    )
    for line in outcome(processes):
        assert line.startswith("pretrain: all processes of a run must begin with the same, but ")
        assert "process 1 on " in line and "process 0" not in line
        assert "config.seed 7 where others have 5" in line and ', noise "' in line
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_host_that_cannot_begin_is_named_by_the_others(shards_folder, tmp_path):
    copies = [shutil.copytree(shards_folder, tmp_path / str(n)) for n in (0, 1)]
    (copies[1] / "manifest.json").unlink()
    changes = [{"shards": copy} for copy in copies]
    processes = start_two_processes(None, tmp_path / "run", changes=changes)
    first, second = outcome(processes)
    assert second.startswith(f"pretrain: {copies[1]}")
    assert (
        first.startswith("pretrain: process 1 on ") and second.removeprefix("pretrain: ") in first
    )


@pytest.mark.slow
def test_a_workdir_of_each_hosts_own_is_refused(shards_folder, tmp_path):
    changes = [{"workdir": tmp_path / str(n)} for n in (0, 1)]
    for line in outcome(start_two_processes(shards_folder, None, changes=changes)):
        assert "choose a workdir that all hosts have mounted" in line
