"""A lock between processes: who holds it, and that nobody does once its holder is dead."""

import os
import signal
import subprocess
import sys

import pytest

from clef_jax.files import LockedError, locked

HOLD = """
import subprocess, sys, time
from clef_jax.files import locked

with locked(sys.argv[1]):
    # A process that this one leaves behind must not keep the lock.
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    print(child.pid, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "lock"], stdout=subprocess.PIPE, text=True
    )
    process.orphan = int(process.stdout.readline())
    yield process
    process.kill()
    os.kill(process.orphan, signal.SIGKILL)
    process.communicate()


def test_a_second_process_is_refused_and_told_of_the_first(holder, tmp_path):
    for _ in range(2):  # Being refused takes nothing from the holder.
        with pytest.raises(LockedError, match=rf"process {holder.pid} on \S+, since 20"):
            locked(tmp_path / "lock").__enter__()


def test_the_lock_of_a_killed_process_is_free(holder, tmp_path):
    holder.kill()
    holder.wait()
    with locked(tmp_path / "lock"):
        assert f"process {os.getpid()} " in (tmp_path / "lock.holder").read_text()


def test_the_lock_is_free_after_the_block_however_it_ends(tmp_path):
    with pytest.raises(ZeroDivisionError), locked(tmp_path / "lock"):
        raise ZeroDivisionError
    with (
        locked(tmp_path / "lock"),
        pytest.raises(LockedError, match=f"process {os.getpid()} on"),
        locked(tmp_path / "lock"),
    ):
        pass
    with locked(tmp_path / "lock"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
