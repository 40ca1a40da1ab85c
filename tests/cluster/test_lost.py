"""Processes that are killed, stopped, absent or failing, and what the others say of it."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tests.train.runs import free_port
from tests.waiting import alive, children_of, wait_for, wait_until_gone

ROOT = pathlib.Path(__file__).resolve().parents[2]
RESUME = "the same command on every host resumes the run from its last checkpoint\n"


class Gathering:
    """Processes of one run, each the child of a parent, by `gathering.py`."""

    def __init__(self, folder, hows, present=None):
        self.port, self.folder = free_port(), folder
        self.processes = {
            n: self._start(n, len(hows), how)
            for n, how in enumerate(hows)
            if present is None or n in present
        }

    def _start(self, number, count, how):
        script = ROOT / "tests" / "cluster" / "gathering.py"
        out, err = (self.folder / f"{number}.{name}" for name in ("out", "err"))
        with out.open("w") as stdout, err.open("w") as stderr:
            return subprocess.Popen(
                [sys.executable, script, f"127.0.0.1:{self.port}", str(count), str(number), how],
                env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1"},
                stdout=stdout,
                stderr=stderr,
            )

    def wait_until(self, word):
        wait_for(
            lambda: all(word in (self.folder / f"{n}.out").read_text() for n in self.processes),
            meanwhile=lambda: all(p.poll() is None for p in self.processes.values()),
        )

    def child(self, number):
        (child,) = children_of(self.processes[number])
        return child

    def errors(self, number):
        return (self.folder / f"{number}.err").read_text()

    def ends(self, number, seconds):
        """Returns a process's exit status; fails if it ends later."""
        return self.processes[number].wait(seconds)


@pytest.fixture
def gathering(tmp_path):
    """Makes gatherings that are killed at the end."""
    made = []

    def make(*hows, present=None):
        made.append(Gathering(tmp_path, hows, present))
        return made[-1]

    yield make
    for process in (p for one in made for p in one.processes.values()):
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["gather", "wait"])
def test_the_others_name_the_process_that_was_killed(gathering, how):
    three = gathering("gather", how, how)
    three.wait_until("gathering")
    three.child(1).kill()
    begin = time.monotonic()
    assert three.ends(0, 60) == three.ends(2, 60) == 1
    assert time.monotonic() - begin < 60
    assert three.ends(1, 60) == 1
    for number in (0, 2):
        ended = f"so process {number} has ended too; {RESUME}"
        assert three.errors(number) == f"gathering: lost process 1 of 3, {ended}"
    assert three.errors(1) == f"gathering: SIGKILL ended process 1 of 3; {RESUME}"


@pytest.mark.slow
def test_the_others_name_process_0_when_it_is_killed(gathering):
    two = gathering("gather", "wait")
    two.wait_until("gathering")
    two.child(0).kill()
    assert two.ends(1, 60) == 1
    ended = f"so process 1 has ended too; {RESUME}"
    assert two.errors(1) == f"gathering: lost process 0 of 2, {ended}"


@pytest.mark.slow
def test_the_others_name_process_0_when_its_host_answers_no_more(gathering):
    two = gathering("gather", "wait")
    two.wait_until("gathering")
    stopped = two.child(0)
    stopped.suspend()
    try:
        assert two.ends(1, 60) == 1
    finally:
        stopped.kill()
    assert two.errors(1).startswith("gathering: lost process 0 of 2, so process 1 has ended")


@pytest.mark.slow
def test_a_process_that_fails_alone_says_so_and_the_others_name_it(gathering):
    two = gathering("gather", "fail")
    two.wait_until("gathering")
    assert two.ends(1, 60) == two.ends(0, 60) == 1
    assert two.errors(1) == "gathering: this one fails\n"
    assert two.errors(0).startswith("gathering: lost process 1 of 2, so process 0 has ended")


@pytest.mark.slow
def test_processes_that_end_or_fail_together_say_only_that(gathering, tmp_path):
    for how, status, said in (("end", 0, ""), ("fail", 1, "gathering: this one fails\n")):
        two = gathering(how, how)
        assert two.ends(0, 300) == two.ends(1, 60) == status
        assert two.errors(0) == two.errors(1) == said


@pytest.mark.slow
def test_an_absent_process_0_is_said_within_a_minute(gathering):
    one = gathering("gather", "gather", present=[1])
    begin = time.monotonic()
    assert one.ends(1, 300) == 1
    # Half of it for a machine that starts Python slowly.
    assert time.monotonic() - begin < 90
    assert one.errors(1).startswith(f"gathering: process 0 was not at 127.0.0.1:{one.port} for 50")
    assert one.errors(1).count("\n") == 1


@pytest.mark.slow
def test_others_that_do_not_come_are_said_by_those_that_did(gathering):
    two = gathering("gather", "gather", "gather", present=[0, 1])
    for number in (0, 1):
        assert two.ends(number, 300) == 1
        assert "gathering: the 3 processes of the run did not all come to" in two.errors(number)
        assert two.errors(number).count("\n") == 1


@pytest.mark.slow
def test_a_child_goes_with_its_parent(gathering):
    two = gathering("wait", "wait")
    two.wait_until("gathering")
    children = [two.child(number) for number in (0, 1)]
    for process in two.processes.values():
        process.send_signal(signal.SIGKILL)
    wait_until_gone(children, seconds=20)
    assert not alive(children)
