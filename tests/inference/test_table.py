"""The table of `clef-jax embed`: what may be appended, who may write, what is deleted."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clef_jax.files import locked
from clef_jax.inference.table import EmbeddingTable
from tests.embed_runs import embed, errors, write_wfdb
from tests.waiting import wait_for


def records(out):
    return pq.read_table(out)["record"].to_pylist()


def beats(seconds, fs):
    t = np.arange(seconds * fs) / fs
    return np.exp(-0.5 * ((t % 0.8 - 0.4) / 0.012) ** 2)


@pytest.mark.parametrize("more", [[], pytest.param(["--overwrite"], marks=pytest.mark.slow)])
def test_a_run_that_embedded_nothing_blocks_no_other(weights, tmp_path, capsys, more):
    data, out = tmp_path / "data", tmp_path / "e.parquet"
    write_wfdb(data, "a", seconds=20, leads=("MLII",))
    write_wfdb(data, "b", seconds=20, leads=("MLII",))
    assert embed(data, "--weights", weights, "--out", out) == 3
    assert "no lead I" in errors(out)["a"] and not out.exists()
    assert "not written" in capsys.readouterr().out
    assert embed(data, "--weights", weights, "--out", out, "--lead", "MLII", *more) == 0
    assert records(out) == ["a", "a", "b", "b"]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name[0] != ".") == [
        "data", "e.parquet",
    ]  # fmt: skip


def test_a_table_without_rows_binds_nobody(weights, tmp_path):
    """As an earlier release left it."""
    data, out = tmp_path / "data", tmp_path / "e.parquet"
    write_wfdb(data, "a", seconds=20)
    assert embed(data, "--weights", weights, "--out", out) == 0
    whole = pq.read_table(out)
    about = json.loads(whole.schema.metadata[b"clef_jax"])
    about["settings"]["leads"] = ["V9"]
    empty = whole.slice(0, 0).replace_schema_metadata({"clef_jax": json.dumps(about)})
    pq.write_table(empty, out)
    assert embed(data, "--weights", weights, "--out", out) == 0
    assert pq.read_table(out).equals(whole)
    settings = json.loads(pq.read_schema(out).metadata[b"clef_jax"])["settings"]
    assert settings["leads"] is None


def test_part_of_a_killed_run_in_which_all_failed_binds_nobody(weights, tmp_path):
    data, out = tmp_path / "data", tmp_path / "e.parquet"
    write_wfdb(data, "a", seconds=20)
    assert embed(data, "--weights", weights, "--out", out, "--lead", "II") == 0
    folder = tmp_path / "e.parquet.parts"
    folder.mkdir()
    os.rename(out, folder / "part-00001.parquet")
    (folder / "part-00001.dropped").write_text(json.dumps([[str(data / "a.hea"), "a"]]))
    # Of a part that a kill kept from appearing, and which must not count for the next of its name.
    (folder / "part-00002.dropped").write_text(json.dumps([[str(data / "a.hea"), "a"]]))
    assert embed(data, "--weights", weights, "--out", out, "--lead", "I") == 0
    assert records(out) == ["a", "a"] and not folder.exists()


def test_failures_of_an_earlier_run_are_tried_again(weights, tmp_path, capsys):
    data, out = tmp_path / "data", tmp_path / "e.parquet"
    for name in ("a", "b"):
        write_wfdb(data, name, seconds=20)
    signal_file = (data / "b.dat").read_bytes()
    (data / "b.dat").unlink()
    assert embed(data, "--weights", weights, "--out", out) == 3
    assert list(errors(out)) == ["b"]
    (data / "b.dat").write_bytes(signal_file)
    assert embed(data, "--weights", weights, "--out", out) == 0
    assert "1 skipped" in capsys.readouterr().out and records(out) == ["a", "a", "b", "b"]


def test_how_arrays_are_read_belongs_to_the_table(weights, tmp_path, capsys):
    """A rerun with another rate is no repetition; what is no array does not care."""
    data, out = tmp_path / "data", tmp_path / "e.parquet"
    write_wfdb(data, "holter", seconds=20)
    run = [data, "--weights", weights, "--out", out]
    assert embed(*run) == 0
    np.save(data / "strip.npy", np.stack([beats(40, 250), 2 * beats(40, 250)]))
    leads = ["--lead_names", "I,II"]
    assert embed(*run, "--fs", 250, *leads) == 0  # appended to a table of WFDB records alone
    assert pq.read_table(out)["fs"].to_pylist() == [250.0] * 6
    assert "1 embedded (4 rows: 4 ok), 1 skipped" in capsys.readouterr().out
    before = out.read_bytes()
    for other, said in (
        (["--fs", 500, *leads], "fs: 250.0 there, 500.0 now"),
        (["--fs", 250, "--lead_names", "II,I"], 'lead_names: ["I", "II"] there, ["II", "I"] now'),
        (["--fs", 250, *leads, "--units", "uV"], 'units: null there, "uV" now'),
    ):
        assert embed(*run, *other) == 1
        printed = capsys.readouterr().err
        assert f"{out}: its embeddings were made in another way ({said})" in printed
        assert "choose another --out, or remove" in printed
        assert out.read_bytes() == before
    write_wfdb(data, "other", seconds=10)
    assert embed(*run) == 0 and embed(data / "other", *run[1:], "--fs", 99) == 0
    about = json.loads(pq.read_schema(out).metadata[b"clef_jax"])
    assert about["reading"] == {"fs": 250.0, "lead_names": ["I", "II"], "units": None}
    assert embed(*run, "--fs", 250, *leads) == 0
    assert records(out) == ["holter"] * 2 + ["strip"] * 4 + ["other"]


def test_parts_read_in_another_way_are_refused_too(weights, tmp_path, capsys):
    np.save(tmp_path / "strip.npy", beats(20, 250))
    out, folder = tmp_path / "e.parquet", tmp_path / "e.parquet.parts"
    run = [tmp_path / "strip.npy", "--weights", weights, "--out", out]
    assert embed(*run, "--fs", 125) == 0
    folder.mkdir()
    os.rename(out, folder / "part-00001.parquet")
    assert embed(*run, "--fs", 250) == 1
    said = capsys.readouterr().err
    assert f"{folder / 'part-00001.parquet'}: its embeddings were made in another way" in said
    shutil.rmtree(folder)
    assert embed(*run, "--fs", 250) == 0


def test_a_second_process_is_refused_and_a_killed_one_blocks_nobody(weights, tmp_path, capsys):
    data, out = tmp_path / "data", tmp_path / "e.parquet"
    write_wfdb(data, "a", seconds=20)
    hold = (
        "import sys, time\n"
        "from clef_jax.files import locked\n"
        "with locked(sys.argv[1]):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(600)\n"
    )
    command = [sys.executable, "-c", hold, tmp_path / ".e.parquet.lock"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    assert embed(data, "--weights", weights, "--out", out) == 1
    said = capsys.readouterr().err
    assert f"{out}: another process is embedding into it (process {process.pid}" in said
    assert not (tmp_path / "e.parquet.parts").exists()
    process.kill()
    process.communicate()
    assert embed(data, "--weights", weights, "--out", out) == 0
    assert records(out) == ["a", "a"]
    with locked(tmp_path / ".e.parquet.lock"):  # given up at the end, and after errors
        pass


@pytest.mark.slow
def test_two_at_once_leave_one_whole_table(weights, tmp_path):
    data, out = tmp_path / "data", tmp_path / "e.parquet"
    for i in range(8):
        write_wfdb(data, f"r{i}", seconds=100, seed=i)
    command = [sys.executable, "-m", "clef_jax.cli.main", "embed", data, "--weights", weights]
    command += ["--out", out, "--workers", "0"]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    printed = [process.communicate(timeout=600) for process in both]
    for process, (said, errors_said) in zip(both, printed, strict=True):
        refused = process.returncode == 1 and "another process is embedding" in errors_said
        assert refused or (process.returncode == 0 and "8 recordings found" in said)
    assert 0 in [process.returncode for process in both]
    assert sorted(records(out)) == sorted(f"r{i}" for i in range(8) for _ in range(10))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(
            lambda whole: b"", "is no table of embeddings", marks=pytest.mark.slow, id="empty"
        ),
        pytest.param(
            lambda whole: whole[:-100],
            "is no table of embeddings",
            marks=pytest.mark.slow,
            id="cut",
        ),
        pytest.param(
            lambda whole: whole[:200] + bytes(2000) + whole[2200:],
            "cannot be read",
            id="damaged inside",
        ),
    ],
)
def test_a_damaged_part_is_named_with_the_remedy(weights, tmp_path, capsys, content, said):
    data, out = tmp_path / "data", tmp_path / "e.parquet"
    for name in ("a", "b"):
        write_wfdb(data, name, seconds=200)
    assert embed(data / "a", "--weights", weights, "--out", out) == 0
    folder = tmp_path / "e.parquet.parts"
    folder.mkdir()
    (folder / "part-00001.parquet").write_bytes(content(out.read_bytes()))
    out.unlink()
    assert embed(data, "--weights", weights, "--out", out) == 1
    printed = capsys.readouterr().err
    assert f"{folder / 'part-00001.parquet'}: " in printed and said in printed
    assert "remove it" in printed
    (folder / "part-00001.parquet").unlink()
    assert embed(data, "--weights", weights, "--out", out) == 0
    assert records(out) == ["a"] * 20 + ["b"] * 20


def test_nothing_is_deleted_that_is_not_ours(weights, tmp_path):
    data, out = tmp_path / "data", tmp_path / "e.parquet"
    write_wfdb(data, "a", seconds=20)
    theirs = [
        tmp_path / "e.parquet.parts-backup" / "notes.txt",
        tmp_path / "e.parquet.parts-1" / "part-00001.parquet",
        tmp_path / "e.parquet.parts" / "notes.tmp",
        tmp_path / "e.parquet.parts" / "part-1.parquet",
        tmp_path / "e.parquet.parts" / "thesis.dropped",
        tmp_path / "e.parquet.tmp-1",
    ]
    for path in theirs:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    for leftover in ("part-00007.tmp", "merged.tmp", "part-00007.dropped.12.tmp"):
        (tmp_path / "e.parquet.parts" / leftover).write_text("of a killed run")
    for more in ([], ["--overwrite"]):
        assert embed(data, "--weights", weights, "--out", out, *more) == 0
        assert [path.read_text() for path in theirs] == ["mine"] * len(theirs)
    assert len(list((tmp_path / "e.parquet.parts").iterdir())) == 3
    pq.write_table(pa.table({"x": [1]}), tmp_path / "e.parquet.parts" / "part-00003.parquet")
    assert embed(data, "--weights", weights, "--out", out) == 1
    assert (tmp_path / "e.parquet.parts" / "part-00003.parquet").exists()


def test_names_with_brackets_and_folders_that_do_not_exist_yet(weights, tmp_path):
    write_wfdb(tmp_path / "data", "a", seconds=20)
    out = tmp_path / "new" / "folder" / "e[1].parquet"
    for _ in range(2):
        assert embed(tmp_path / "data", "--weights", weights, "--out", out) == 0
    assert [path.name for path in out.parent.iterdir() if path.name[0] != "."] == ["e[1].parquet"]


def test_an_interrupted_run_gives_up_the_table(weights, tmp_path, capsys, monkeypatch):
    """Control-C: exit code 130, nothing unfinished left, and the same command goes on."""
    data, out = tmp_path / "data", tmp_path / "e.parquet"
    write_wfdb(data, "long", seconds=2000)
    folder = tmp_path / "e.parquet.parts"
    sent, add = threading.Event(), EmbeddingTable.add

    def interrupt():
        wait_for((folder / "part-00001.tmp").exists)
        os.kill(os.getpid(), signal.SIGINT)
        sent.set()

    def add_unless_interrupted(table, block, *, last):
        assert not last or sent.wait(300)  # However late, it comes while the run goes on.
        if sent.is_set():
            # The run goes on, as Python drops an interrupt that arrives within a callback, such as
            # the garbage collector's. A second one, during the first one's tidying, would stop it.
            signal.raise_signal(signal.SIGINT)
        add(table, block, last=last)

    thread = threading.Thread(target=interrupt)
    # A shell starts what it runs in the background with this signal ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread.start()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(EmbeddingTable, "add", add_unless_interrupted)
            assert embed(data, "--weights", weights, "--out", out, workers="1") == 130
    finally:
        thread.join()
        signal.signal(signal.SIGINT, before)
    assert "the same command goes on" in capsys.readouterr().err
    assert not folder.exists() and not out.exists()
    children = psutil.Process().children(recursive=True)
    assert not [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    assert embed(data, "--weights", weights, "--out", out) == 0
    assert pq.read_metadata(out).num_rows == 200


def test_a_strangers_file_beside_the_table_is_left_alone(weights, tmp_path):
    write_wfdb(tmp_path / "data", "a", seconds=20)
    out, theirs = tmp_path / "e.parquet", tmp_path / "e.dropped"
    theirs.write_text("mine")
    for _ in range(2):
        assert embed(tmp_path / "data", "--weights", weights, "--out", out) == 0
    assert theirs.read_text() == "mine" and pq.read_metadata(out).num_rows == 2
