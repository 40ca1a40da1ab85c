"""Disks that fail for a moment are asked again, a few times; they and those that hang are named."""

import errno
import gc
import os
import shutil
import signal
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest

from clef_jax import reads
from clef_jax.data.batches.rows import BatchRows
from clef_jax.data.batches.stream import make_batches
from clef_jax.data.recordings import RecordingUnavailable, open_recording, read_recording
from clef_jax.data.shards.format import ShardError
from clef_jax.data.shards.store import ShardSet
from tests.waiting import wait_for
from tests.wfdb_records import write_record

pytestmark = pytest.mark.slow
FAILING: dict[str, int] = {}
HANGING: dict[str, threading.Event] = {}


def _fail_or_hang(event, arguments):
    if event != "open":
        return
    path = str(arguments[0])
    if FAILING.get(path):
        FAILING[path] -= 1
        raise OSError(errno.EIO, os.strerror(errno.EIO), path)
    if path in HANGING:
        HANGING[path].wait()


sys.addaudithook(_fail_or_hang)


@pytest.mark.parametrize("suffix", [".hea", ".dat"])
@pytest.mark.parametrize("times", [1, 3, 4])
def test_a_recording(tmp_path, suffix, times):
    x = write_record(tmp_path)
    path = str(tmp_path / f"r{suffix}")
    FAILING[path] = times
    if times <= len(reads.PAUSES_S):
        np.testing.assert_allclose(read_recording(tmp_path / "r").signal_mv, x / 1000)
    else:
        with pytest.raises(RecordingUnavailable, match=rf"r\{suffix}.*cannot be read now \(Input"):
            read_recording(tmp_path / "r")
    assert FAILING[path] == 0


def test_other_formats_name_their_file(tmp_path):
    for name in ("r.csv", "r.npy", "r.edf", "r.mat", "r.dcm"):
        path = tmp_path / name
        path.write_bytes(b"x")
        FAILING[str(path)] = 4
        with pytest.raises(RecordingUnavailable, match=rf"{name}: cannot be read now \(Input"):
            open_recording(path, fs=500)
        assert FAILING[str(path)] == 0


def test_a_shard_that_is_away_for_a_moment(shards_folder, tmp_path, monkeypatch):
    copied = shutil.copytree(shards_folder, tmp_path / "shards")
    shard, away = copied / "leads-00000.array_record", tmp_path / "away"
    expected = ShardSet(shards_folder).read([0], [0])
    shards = ShardSet(copied)
    shard.rename(away)
    pauses = []

    def come_back(seconds):
        pauses.append(seconds)
        if len(pauses) == 2:
            away.rename(shard)

    monkeypatch.setattr(reads.time, "sleep", come_back)
    np.testing.assert_array_equal(shards.read([0], [0]), expected)
    assert pauses == list(reads.PAUSES_S[:2])
    shards = ShardSet(copied)
    shard.rename(away)
    pauses[:] = [0.0] * 2
    with pytest.raises(ShardError, match=r"leads-00000.array_record: cannot be read in several"):
        shards.read([0], [0])
    assert pauses[2:] == list(reads.PAUSES_S)


@pytest.mark.parametrize("suffix", [".hea", ".dat"])
def test_a_recording_whose_disk_hangs(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr(reads, "STALLED_S", 0.3)
    x = write_record(tmp_path)
    path = str(tmp_path / f"r{suffix}")
    HANGING[path] = threading.Event()
    with pytest.raises(
        RecordingUnavailable, match=r"/r(\.\w+)?: cannot be read now \(no answer within 0\.3 s"
    ):
        read_recording(tmp_path / "r")
    HANGING.pop(path).set()
    monkeypatch.undo()
    np.testing.assert_allclose(read_recording(tmp_path / "r").signal_mv, x / 1000)


def test_a_read_that_a_signal_cuts_off_answers_no_later_one(tmp_path):
    first = write_record(tmp_path, name="a")
    second = write_record(tmp_path, name="b", x=-first)

    def cut_off(*_):
        raise ZeroDivisionError

    before = signal.signal(signal.SIGALRM, cut_off)
    HANGING[path := str(tmp_path / "a.dat")] = threading.Event()
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    with pytest.raises(ZeroDivisionError):
        read_recording(tmp_path / "a")
    signal.signal(signal.SIGALRM, before)
    HANGING.pop(path).set()
    for _ in range(3):
        np.testing.assert_allclose(read_recording(tmp_path / "b").signal_mv, second / 1000)
    np.testing.assert_allclose(read_recording(tmp_path / "a").signal_mv, first / 1000)


def test_what_a_failed_read_read_is_not_kept(tmp_path):
    class Large:
        pass

    def fail():
        large = Large()
        kept.append(weakref.ref(large))
        raise RecordingUnavailable(f"{large}")

    kept = []
    gc.disable()
    try:
        with pytest.raises(RecordingUnavailable):
            reads.in_time(fail, RecordingUnavailable, str)
        assert kept[0]() is None
    finally:
        gc.enable()


def test_time_that_a_process_is_stopped_does_not_count(monkeypatch):
    monkeypatch.setattr(reads, "STALLED_S", 2)
    waker = "import os, signal, sys, time; time.sleep(3); os.kill(int(sys.argv[1]), signal.SIGCONT)"

    def read():
        with subprocess.Popen([sys.executable, "-c", waker, str(os.getpid())]):
            os.kill(os.getpid(), signal.SIGSTOP)
        return "read"

    assert reads.in_time(read, RecordingUnavailable, str) == "read"


FORK = """
import os, sys
from clef_jax import reads
from clef_jax.data.recordings import read_recording
reads.STALLED_S = 5
read_recording(sys.argv[1])  # So that this thread has one that reads for it.
child = os.fork()
read_recording(sys.argv[1])
if child:
    sys.exit(os.waitpid(child, 0)[1] != 0)
"""


def test_a_forked_process_reads(tmp_path):
    write_record(tmp_path)
    # In a process without jax, which warns of forks.
    subprocess.run([sys.executable, "-c", FORK, tmp_path / "r"], check=True)


def test_threads_that_read_leave_with_those_they_read_for(tmp_path):
    write_record(tmp_path)
    before = threading.active_count()
    for _ in range(20):
        thread = threading.Thread(target=read_recording, args=(tmp_path / "r",))
        thread.start()
        thread.join()
    wait_for(lambda: threading.active_count() <= before + 1)  # This thread's own.


def test_a_shard_whose_disk_hangs(shards_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(reads, "STALLED_S", 0.3)
    copied = shutil.copytree(shards_folder, tmp_path / "shards")
    shards, shard = ShardSet(copied), copied / "leads-00001.array_record"
    rows = BatchRows(np.flatnonzero(shards._shard == 1)[:2], np.zeros((2, 2), int))
    shard.unlink()
    os.mkfifo(shard)  # Whoever opens it waits for one who writes.
    batches = iter(make_batches(shards, [rows], columns={}))
    with pytest.raises(ShardError, match=r"leads-00001.array_record: cannot be read now \(no ans"):
        next(batches)
    with pytest.raises(ShardError, match=r"leads-00001.array_record: cannot be read now"):
        shards.read([0], [0])  # What is read ahead does not wait as long again.
    monkeypatch.undo()
    assert ShardSet(shards_folder).read([0], [0]).any()
    os.close(os.open(shard, os.O_WRONLY))
