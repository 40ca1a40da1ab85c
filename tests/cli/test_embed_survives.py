"""What runs of `clef-jax embed` survive: kills, readers that die, files that end too early."""

import collections
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from clef_jax.inference import load_encoder
from tests.embed_runs import embed, errors, write_wfdb
from tests.waiting import alive, children_of, wait_for


def hook_opening(folder, monkeypatch, *ends_and_actions):
    """Makes processes that start from now on act when they open files of such names."""
    lines = ["import os, sys", "def audit(event, arguments):", "    if event == 'open':"]
    lines += ["        path = str(arguments[0])"]
    for end, action in zip(ends_and_actions[::2], ends_and_actions[1::2], strict=True):
        lines += [f"        if path.endswith({end!r}):", f"            {action}"]
    (folder / "hook").mkdir()
    (folder / "hook" / "sitecustomize.py").write_text(
        "\n".join([*lines, "sys.addaudithook(audit)"])
    )
    path = os.pathsep.join([str(folder / "hook"), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)


EMBED_IN_SMALL_PARTS = """
import sys

if __name__ == "__main__":
    from clef_jax.cli.main import main
    from clef_jax.data.windows import pool
    from clef_jax.inference import table

    pool._FILES_PER_TASK = 1
    table._SECONDS_PER_PART = 0.0
    sys.exit(main(sys.argv[1:]))
"""


@contextlib.contextmanager
def running(command):
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def embedded_in(folder):
    parts = sorted(folder.glob("part-*.parquet"))
    return {record for part in parts for record in pq.read_table(part)["record"].to_pylist()}


@pytest.mark.slow
def test_killed_runs_leave_no_process_and_are_gone_on_with(weights, tmp_path, monkeypatch, capsys):
    """Killed, then terminated, while one worker reads and one waits; then finished."""
    data, out = tmp_path / "data", tmp_path / "e.parquet"
    hook_opening(tmp_path, monkeypatch, "stop.dat", "import time; time.sleep(600)")
    write_wfdb(data, "stop", seconds=80)
    (tmp_path / "embed.py").write_text(EMBED_IN_SMALL_PARTS)
    command = [sys.executable, tmp_path / "embed.py", "embed", data, "--weights", weights]
    command += ["--out", out, "--workers", "2"]
    folder = tmp_path / "e.parquet.parts"
    for first, how in ((0, signal.SIGKILL), (10, signal.SIGTERM)):
        for i in range(first, first + 10):
            write_wfdb(data, f"r{i:02d}", seconds=80, seed=i)
        with running(command) as process:
            wait_for(
                lambda enough=first + 5: len(embedded_in(folder)) >= enough,
                meanwhile=lambda p=process: p.poll() is None,
            )
            children = children_of(process)
            assert sum("spawn_main" in " ".join(child.cmdline()) for child in children) == 2
            process.send_signal(how)
            wait_for(lambda those=children: not alive(those), seconds=30)
            _, printed = process.communicate(timeout=30)
        assert process.returncode == -how and b"Traceback" not in printed
        assert not out.exists()
    done = embedded_in(folder)
    assert 15 <= len(done) <= 20
    assert embed(data, "--weights", weights, "--out", out) == 0
    assert f"{len(done)} skipped" in capsys.readouterr().out
    frame = pq.read_table(out).to_pandas()
    names = ["stop", *(f"r{i:02d}" for i in range(20))]
    assert frame.groupby("record").size().to_dict() == dict.fromkeys(names, 8)
    expected = load_encoder(weights).embed_recording(data / "r19").embedding
    actual = np.stack(frame[frame.record == "r19"].embedding)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)
    assert not list(tmp_path.glob("e.parquet.*"))


def test_parts_that_were_merged_already_are_not_merged_again(weights, tmp_path):
    """A kill between the table's replacement and the removal of its parts leaves both."""
    data, out = tmp_path / "data", tmp_path / "e.parquet"
    write_wfdb(data, "a", seconds=20)
    assert embed(data, "--weights", weights, "--out", out) == 0
    stale = tmp_path / "e.parquet.parts"
    stale.mkdir()
    shutil.copy(out, stale / "part-00001.parquet")
    assert embed(data, "--weights", weights, "--out", out) == 0
    assert pq.read_metadata(out).num_rows == 2
    assert not stale.exists()


def test_recording_that_fails_halfway_leaves_no_rows(weights, tmp_path, real_data, capsys):
    """A format whose reader notices only in later blocks that the signal file is cut."""
    data, out = tmp_path / "data", tmp_path / "e.parquet"
    write_wfdb(data, "090", seconds=20, leads=("MLII",))
    write_wfdb(data, "110", seconds=20, leads=("MLII",))
    shutil.copy(real_data / "mitdb/100.hea", data)
    content = (real_data / "mitdb/100.dat").read_bytes()
    (data / "100.dat").write_bytes(content[: len(content) // 2])
    arguments = [data, "--weights", weights, "--out", out, "--lead", "MLII"]
    assert embed(*arguments) == 3
    assert pq.read_table(out)["record"].to_pylist() == ["090"] * 2 + ["110"] * 2
    assert "100" in errors(out) and len(errors(out)) == 1
    assert "3 recordings found: 2 embedded (4 rows: 4 ok)" in capsys.readouterr().out
    (data / "100.dat").write_bytes(content)
    assert embed(*arguments) == 0
    assert pq.read_table(out)["record"].to_pylist().count("100") == 180


def test_a_dying_reader_fails_its_file_only(weights, tmp_path, monkeypatch, capsys):
    """A library that crashes on one of 40 files: 3 tasks, of which one is read again."""
    data, out, log = tmp_path / "data", tmp_path / "e.parquet", tmp_path / "log"
    write_wfdb(data, "r00", seconds=10)
    for i in range(1, 40):
        header = (data / "r00.hea").read_text().replace("r00", f"r{i:02d}")
        (data / f"r{i:02d}.hea").write_text(header)
        shutil.copy(data / "r00.dat", data / f"r{i:02d}.dat")
    write_down = f"open({str(log)!r}, 'a').write(f'{{path}} {{os.getpid()}}\\n')"
    hook_opening(tmp_path, monkeypatch, ".dat", write_down, "r20.dat", "os._exit(11)")
    assert embed(data, "--weights", weights, "--out", out, workers="2") == 3
    assert "process that read it died (exit code 11)" in errors(out)["r20"]
    assert len(errors(out)) == 1
    expected = [f"r{i:02d}" for i in range(40) if i != 20]
    assert pq.read_table(out)["record"].to_pylist() == expected

    reads = [line.split() for line in log.read_text().splitlines()]
    times = collections.Counter(pathlib.Path(file).stem for file, _ in reads)
    # Twice with its task of 16, r16 to r31, then by itself, which is tried twice as well.
    before = dict.fromkeys((f"r{i:02d}" for i in range(16, 20)), 3)
    assert times == dict.fromkeys(expected, 1) | before | {"r20": 4}
    assert len({pid for _, pid in reads}) == 2 + 4
