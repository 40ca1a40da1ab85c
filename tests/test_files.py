"""Files and folders that appear whole or not at all; a lock between processes.

Who holds the lock, and that nobody does once its holder is dead.
"""

import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys

import pytest

from clef_jax.files import (
    LockedError,
    clear_temporaries,
    holder_of,
    locked,
    only_writer,
    open_regular,
    replacing,
    replacing_folder,
    set_aside,
    write_json,
)

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


def test_one_may_ask_who_holds_a_lock(holder, tmp_path):
    assert holder_of(tmp_path / "other") is None and not (tmp_path / "other").exists()
    said = rf"process {holder.pid} on \S+, since 20.*"
    assert all(re.fullmatch(said, holder_of(tmp_path / "lock")) for _ in range(2))
    holder.kill()
    holder.wait()
    assert (tmp_path / "lock.holder").exists() and holder_of(tmp_path / "lock") is None
    # Where it cannot be tried, as a folder cannot, what is written there is all that is known.
    (tmp_path / "lock").unlink()
    (tmp_path / "lock").mkdir()
    assert re.fullmatch(said + " unless it was killed: .*", holder_of(tmp_path / "lock"))


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


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        pathlib.Path(temporary).write_text("half of the n")
        raise ZeroDivisionError
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file"]
    with replacing(path) as temporary:
        pathlib.Path(temporary).write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["file"]


def test_processes_of_one_number_on_two_hosts_write_files_of_their_own(tmp_path, monkeypatch):
    path = tmp_path / "file"
    with replacing(path) as here:
        pathlib.Path(here).write_text("he")
        monkeypatch.setattr(socket, "gethostname", lambda: "there")
        with replacing(path) as there:
            pathlib.Path(there).write_text("there")
        assert path.read_text() == "there"
        with open(here, "a") as stream:
            stream.write("re")
    assert path.read_text() == "here" and os.listdir(tmp_path) == ["file"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "folder"
    for fails in (True, False):
        with contextlib.suppress(ZeroDivisionError), replacing_folder(path) as temporary:
            (temporary / "deep").mkdir(parents=True)
            (temporary / "deep" / "file").write_text("content")
            assert not path.exists()
            assert not fails or 1 / 0
        assert os.listdir(tmp_path) == ([] if fails else ["folder"])
    assert (path / "deep" / "file").read_text() == "content"


def test_what_is_damaged_takes_the_place_of_what_was_before(tmp_path):
    for content in ("first", "second"):
        (tmp_path / "5").mkdir()
        (tmp_path / "5" / content).touch()
        aside = set_aside(tmp_path / "5")
        assert os.listdir(tmp_path) == [aside.name] and os.listdir(aside) == [content]


def test_equal_content_is_equal_json(tmp_path):
    write_json(tmp_path / "a", {"x": 1, "y": [2.5, None]})
    write_json(tmp_path / "b", {"y": [2.5, None], "x": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert json.loads((tmp_path / "a").read_text()) == {"x": 1, "y": [2.5, None]}


def test_only_one_writes_and_clears_what_killed_ones_left_of_it(tmp_path):
    path = tmp_path / "out" / "risk.csv"
    with only_writer(path):
        refused = f"{path}: another process is writing it (process {os.getpid()} on "
        with pytest.raises(LockedError, match=re.escape(refused)), only_writer(path):
            pass
    with pytest.raises(ZeroDivisionError), only_writer(path), replacing(path) as temporary:
        pathlib.Path(temporary).touch()
        killed = os.path.basename(temporary)
        raise ZeroDivisionError
    others = {killed.replace("csv", "csv.gz"), "risk.csv.tmp", "risk.csv.x.tmp"}
    for name in {killed} | others:
        (path.parent / name).touch()
    with only_writer(path):
        pass
    assert set(os.listdir(path.parent)) == {".risk.csv.lock"} | others
    clear_temporaries(path.parent)
    assert set(os.listdir(path.parent)) == {".risk.csv.lock", "risk.csv.tmp", "risk.csv.x.tmp"}
    clear_temporaries(tmp_path / "absent")


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, said in ((tmp_path / "pipe", "a named pipe"), (pathlib.Path("/dev/zero"), "device")):
        with pytest.raises(OSError, match=said):
            open_regular(path)
    (tmp_path / "file").write_text("x")
    with open_regular(tmp_path / "file") as stream:
        assert stream.read() == b"x"
