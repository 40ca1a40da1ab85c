"""The command `clef-jax`: what it writes, skips, reports, survives, and its exit codes."""

import collections
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pyarrow.parquet as pq
import pydicom.data
import pytest

import clef_jax
from clef_jax.checkpoints.encoder import load_params, save_encoder
from clef_jax.cli import main as cli
from clef_jax.data.shards.format import signed
from clef_jax.data.shards.store import ShardSet
from clef_jax.data.shards.write import write_shards
from clef_jax.data.signals.recipe import recipe
from clef_jax.data.signals.spec import CLEF_V2
from clef_jax.inference import load_encoder
from tests.convert.checkpoints import torch_model, write_lightning
from tests.embed_runs import embed, errors, save, tiny_encoder, write_wfdb
from tests.oracles.specs import SPEC_VERSION_1
from tests.waiting import alive, children_of, wait_for

DICOM = pydicom.data.get_testdata_file("waveform_ecg.dcm", download=False)


def test_table_of_a_folder_of_many_formats(weights, tmp_path, capsys):
    """Two worker processes; a long record in several blocks; a bad file; a lead that is missing."""
    data = tmp_path / "data"
    write_wfdb(data / "a", "long", seconds=1000)
    for i in range(3):
        write_wfdb(data / "b", f"short{i}", seconds=10, seed=i)
    write_wfdb(data / "b", "holter", seconds=30, leads=("MLII",))
    write_wfdb(data / "b", "brief", seconds=9)
    shutil.copy(DICOM, data / "strip.dcm")
    (data / "broken.edf").write_bytes(b"0   no")
    (data / "tables.csv").write_text("name,age\na,3\n")
    out = tmp_path / "e.parquet"
    assert embed(data, data / "absent", "--weights", weights, "--out", out, workers="2") == 3

    table = pq.read_table(out)
    columns = ["file", "record", "lead", "start_s", "fs", "quality", "embedding"]
    assert table.column_names == columns
    assert str(table.schema.field("embedding").type) == "fixed_size_list<element: float>[64]"
    frame = table.to_pandas()
    assert frame.record.tolist() == ["a/long"] * 100 + [
        "b/short0",
        "b/short1",
        "b/short2",
        "strip",
    ]
    assert frame.start_s.tolist() == [10.0 * i for i in range(100)] + [0.0] * 4
    assert set(frame.lead) == {"I"} and set(frame.quality) == {"ok"}
    assert frame.fs.tolist() == [250.0] * 103 + [1000.0]
    assert frame.file[0] == str(data / "a/long.hea")

    encoder = load_encoder(weights)
    expected = np.concatenate(
        [encoder.embed_recording(data / "a/long").embedding]
        + [encoder.embed_recording(data / f"b/short{i}").embedding for i in range(3)]
        + [encoder.embed_recording(DICOM).embedding]
    )
    np.testing.assert_allclose(np.stack(frame.embedding), expected, rtol=0, atol=1e-5)

    found = errors(out)
    assert set(found) == {"broken", "b/holter", "b/brief", "absent"}
    assert "no lead I; the recording has MLII" in found["b/holter"]
    assert "9.00 s is shorter" in found["b/brief"]
    output = capsys.readouterr()
    assert "9 recordings found: 5 embedded (104 rows: 104 ok)" in output.out
    assert "4 failed" in output.out

    metadata = json.loads(pq.read_schema(out).metadata[b"clef_jax"])
    assert metadata["fingerprint"] == encoder.fingerprint
    assert metadata["preprocessing"] == encoder.preprocessing.to_dict()
    assert metadata["provenance"] == {"n": 1}
    assert not list(tmp_path.glob("e.parquet.*"))


def test_rerun_skips_appends_and_overwrites(weights, tmp_path, capsys):
    data, out = tmp_path / "data", tmp_path / "e.parquet"
    write_wfdb(data, "a", seconds=20)
    write_wfdb(data, "short", seconds=5)
    assert embed(data, "--weights", weights, "--out", out) == 3
    first = pq.read_table(out)
    assert list(errors(out)) == ["short"]
    write_wfdb(data, "b", seconds=30)
    (data / "short.hea").unlink()
    assert embed(data, "--weights", weights, "--out", out) == 0
    assert "1 embedded (3 rows: 3 ok), 1 skipped" in capsys.readouterr().out
    second = pq.read_table(out)
    assert second.slice(0, 2).equals(first)
    assert second["record"].to_pylist() == ["a"] * 2 + ["b"] * 3
    assert not out.with_suffix(".errors.csv").exists()

    write_wfdb(data, "a", seconds=40, seed=1)
    assert embed(data / "a.dat", "--weights", weights, "--out", out, "--overwrite") == 0
    third = pq.read_table(out)
    assert third["record"].to_pylist() == ["b"] * 3 + ["a"] * 4
    assert embed(data, "--weights", weights, "--out", out) == 0
    assert pq.read_table(out).equals(third)


def test_appending_with_other_weights_or_settings_is_refused(weights, tmp_path, capsys):
    write_wfdb(tmp_path / "data", "a", seconds=20)
    data, out = tmp_path / "data", tmp_path / "e.parquet"
    assert embed(data, "--weights", weights, "--out", out) == 0
    before = out.read_bytes()
    other = save(tiny_encoder(seed=1), tmp_path / "other")
    for arguments in (["--weights", other], ["--weights", weights, "--lead", "II"]):
        assert embed(data, "--out", out, *arguments) == 1
        assert "made in another way" in capsys.readouterr().err
    assert out.read_bytes() == before
    out.write_bytes(b"PAR1 nonsense")
    assert embed(data, "--out", out, "--weights", weights) == 1
    assert "no table of embeddings" in capsys.readouterr().err


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


def test_shards(weights, tmp_path, real_data):
    files = sorted((real_data / "ptb-xl/records500/00000").glob("*.hea"))[:6]
    for file in files:
        shutil.copy(file, tmp_path)
        shutil.copy(file.with_suffix(".dat"), tmp_path)
    shards = tmp_path / "shards"
    write_shards(tmp_path, shards, workers=1, progress=False)
    out = tmp_path / "e.parquet"
    assert embed(shards, "--weights", weights, "--out", out, "--lead", "V2") == 0
    frame = pq.read_table(out).to_pandas()
    opened = ShardSet(shards)
    assert frame.record.tolist() == [str(name) for name in opened.record]
    assert set(frame.lead) == {"V2"}
    encoder = load_encoder(weights)
    for row in frame.itertuples():
        expected = encoder.embed_recording(tmp_path / row.record, leads="V2").embedding[0]
        error = np.abs(row.embedding - expected).max() / np.abs(expected).max()
        assert error < 1e-3  # int16 steps
    assert embed(shards, "--weights", weights, "--out", out, "--lead", "V2") == 0
    assert pq.read_metadata(out).num_rows == len(frame)
    manifest = shards / "manifest.json"
    changed = json.loads(manifest.read_text())
    changed["preprocessing"]["order"] = 4
    manifest.write_text(json.dumps(signed(changed)))
    assert embed(shards, tmp_path / files[0].name, "--weights", weights, "--out", out) == 1
    out.unlink()
    assert embed(shards, tmp_path / files[0].name, "--weights", weights, "--out", out) == 3
    assert "not the encoder's: order 4 instead of 5" in errors(out)[""]
    assert pq.read_metadata(out).num_rows == 1


def test_arrays_need_a_rate_and_take_names(weights, tmp_path, capsys):
    t = np.arange(5000) / 250
    strip = np.exp(-0.5 * ((t % 0.8 - 0.4) / 0.012) ** 2)
    np.save(tmp_path / "strip.npy", strip)
    np.save(tmp_path / "two.npy", np.stack([strip, -strip]))
    out = tmp_path / "e.parquet"
    files = [tmp_path / "strip.npy", tmp_path / "two.npy"]
    assert embed(*files, "--weights", weights, "--out", out) == 3
    assert "sampling rate" in errors(out)["strip"]
    assert embed(*files, "--weights", weights, "--out", out, "--fs", 250) == 3
    assert "no lead I; the recording has signal 0, signal 1" in errors(out)["two"]
    assert pq.read_table(out)["lead"].to_pylist() == ["ECG"] * 2
    arguments = ["--weights", weights, "--out", tmp_path / "f.parquet", "--fs", 250]
    assert embed(tmp_path / "t*.npy", *arguments, "--lead_names", "I,II") == 0
    assert pq.read_table(tmp_path / "f.parquet")["lead"].to_pylist() == ["I"] * 2


def test_tables_beside_recordings_are_no_failure(weights, tmp_path, capsys):
    data, out = tmp_path / "data", tmp_path / "e.parquet"
    write_wfdb(data, "strip", seconds=10)
    np.savetxt(data / "a.csv", np.sin(np.arange(2500.0)), header="I", comments="")
    (data / "labels.csv").write_text("record,label\na,1\n")
    arguments = [data, "--weights", weights, "--out", out, "--fs", 250]
    assert embed(*arguments) == 0
    assert pq.read_table(out)["record"].to_pylist() == ["a", "strip"]
    assert "skipped as a table" in errors(out)["labels"]
    output = capsys.readouterr()
    assert "0 failed" in output.out and "1 files skipped as tables" in output.err
    (data / "heart.wav").write_bytes(b"RIFF")
    assert embed(*arguments) == 3
    assert set(errors(out)) == {"labels", "heart"}


def test_units(weights, tmp_path, capsys):
    t = np.arange(5000) / 250
    strip = 1000 * np.exp(-0.5 * ((t % 0.8 - 0.4) / 0.012) ** 2) + 100 * np.sin(2 * t)
    np.savetxt(tmp_path / "a.csv", strip, header="I", comments="")
    out = tmp_path / "e.parquet"
    arguments = [tmp_path / "a.csv", "--weights", weights, "--out", out, "--fs", 250]
    assert embed(*arguments) == 3
    assert "probably µV" in errors(out)["a"] and "--units uV" in errors(out)["a"]
    assert embed(*arguments, "--units", "uV") == 0
    assert pq.read_table(out)["quality"].to_pylist() == ["ok"] * 2
    with pytest.raises(SystemExit):
        embed(*arguments, "--units", "kV")
    assert "invalid choice: 'kV'" in capsys.readouterr().err


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


def test_workers_do_not_import_jax():
    script = (
        "import sys, clef_jax.cli.main, clef_jax.data.windows.pool\n"
        "print([m for m in ('jax', 'flax', 'torch', 'pandas', 'pyarrow') if m in sys.modules])\n"
    )
    command = [sys.executable, "-c", script]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"


def test_info_and_convert(tmp_path, capsys):
    file = write_lightning(tmp_path / "run.ckpt", torch_model("clef_small"))
    folder = tmp_path / "clef_small"
    assert cli.main(["convert", str(file), "--out", str(folder)]) == 0
    output = capsys.readouterr().out
    assert "443,184 parameters used" in output and "ignored 155 keys: BatchNorm" in output
    assert cli.main(["info", str(folder)]) == 0
    output = capsys.readouterr().out
    assert "443,184 parameters, 256-d" in output and "run.ckpt" in output
    assert "fingerprint: computed as stored" in output
    assert '"version": 2' in output and "trained on version" not in output
    assert textwrap.indent(recipe(CLEF_V2), "    ") in output
    assert cli.main(["convert", str(folder), "--to_torch", "--out", str(tmp_path / "b.ckpt")]) == 0
    assert cli.main(["convert", str(tmp_path / "b.ckpt"), "--out", str(tmp_path / "again")]) == 0
    capsys.readouterr()
    assert cli.main(["convert", str(file), "--out", str(folder)]) == 1
    assert "exists already" in capsys.readouterr().err
    assert cli.main(["info", str(tmp_path / "absent")]) == 1

    params, meta = load_params(folder)
    meta["preprocessing"] = SPEC_VERSION_1
    save_encoder(tmp_path / "older", params, meta)
    capsys.readouterr()
    assert cli.main(["info", str(tmp_path / "older")]) == 0
    assert "trained on version 1: the same for recordings at 500 Hz" in capsys.readouterr().out
    params["stem"]["kernel"] = params["stem"]["kernel"] * 1.5
    save_encoder(tmp_path / "changed", params, meta)
    capsys.readouterr()
    assert cli.main(["info", str(tmp_path / "changed")]) == 1
    assert "the weights or their computation changed" in capsys.readouterr().err


def test_the_bar_and_the_summary_count_the_same(weights, tmp_path, capsys):
    """Failures before the first window, after the last one, and paths that hold nothing."""
    data, empty, out = tmp_path / "data", tmp_path / "empty", tmp_path / "e.parquet"
    empty.mkdir()
    write_wfdb(data, "a", seconds=5)
    write_wfdb(data, "b", seconds=20)
    for i in range(3):
        write_wfdb(data, f"c{i}", seconds=5)
    assert embed(data, data / "absent", empty, "--weights", weights, "--out", out) == 3
    printed = capsys.readouterr()
    assert "6 recordings found: 1 embedded (2 rows: 2 ok), 0 skipped" in printed.out
    assert "6 failed" in printed.out and len(errors(out)) == 6
    assert re.findall(r"(\d+) windows, (\d+) failed", printed.err)[-1] == ("2", "6")
    assert "6/6 [" in printed.err


def test_file_names_that_are_no_text_fail_alone(weights, tmp_path):
    data, out = tmp_path / "data", tmp_path / "e.parquet"
    write_wfdb(data, "a", seconds=10)
    try:
        shutil.copytree(data, tmp_path / os.fsdecode(b"data/b\xff"))
    except OSError:
        pytest.skip("this file system has no such names")
    assert embed(data, "--weights", weights, "--out", out) == 3
    assert pq.read_table(out)["record"].to_pylist() == ["a"]
    ((record, error),) = errors(out).items()
    assert record == "b\\udcff/a" and "its name is no UTF-8; rename it" in error


def test_the_list_of_failures_is_no_recording(weights, tmp_path):
    np.save(tmp_path / "short.npy", np.zeros(100))
    np.save(tmp_path / "strip.npy", np.sin(np.arange(5000) / 20))
    run = [tmp_path, "--weights", weights, "--out", tmp_path / "e.parquet", "--fs", 250]
    for _ in range(2):
        assert embed(*run) == 3
        assert list(errors(tmp_path / "e.parquet")) == ["short"]


def test_a_folder_of_arrays_alone_says_that_their_rate_is_needed(weights, tmp_path):
    np.save(tmp_path / "strip.npy", np.zeros(5000))
    assert embed(tmp_path, "--weights", weights, "--out", tmp_path / "e.parquet") == 3
    assert (
        "CSV, TSV, NPY and MATLAB files count if --fs gives their rate"
        in errors(tmp_path / "e.parquet")[""]
    )


def test_version_and_help(capsys):
    for arguments, said in (
        (["--version"], f"clef-jax {clef_jax.__version__}\n"),
        (["--help"], "embed recordings into a Parquet table"),
        (["embed", "--help"], "sampling rate of files without"),
        (["info", "--help"], "usage: clef-jax info"),
        (["convert", "--help"], "usage: clef-jax convert"),
    ):
        with pytest.raises(SystemExit) as exit_:
            cli.main(arguments)
        assert exit_.value.code == 0 and said in capsys.readouterr().out
    assert cli.main([]) == 2
    assert "usage: clef-jax" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["emebd"], "invalid choice: 'emebd'"),
        (["embed", "x", "--weights", "w"], "required: --out"),
        (["embed", "x", "--lead", " , "], "--lead: expected names separated by commas"),
        (["embed", "x", "--fs", "0"], "--fs: expected a number above 0, got '0'"),
        (["embed", "x", "--fs", "nan"], "--fs: expected a number above 0, got 'nan'"),
        (["embed", "x", "--fs", "fast"], "--fs: expected a number above 0, got 'fast'"),
        (["embed", "x", "--window", "inf"], "--window: expected a number above 0, got 'inf'"),
        (["embed", "x", "--stride=-1"], "--stride: expected a number above 0, got '-1'"),
        (["embed", "x", "--workers=-1"], "--workers: expected a whole number from 0, got '-1'"),
        (["embed", "x", "--batch_size", "0"], "--batch_size: expected a whole number from 1"),
        (["embed", "x", "--batch_size", "8.5"], "--batch_size: expected a whole number from 1"),
    ],
)
def test_wrong_arguments(arguments, said, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    assert exit_.value.code == 2 and said in capsys.readouterr().err


def test_places_where_nothing_can_be_read_or_written(weights, tmp_path, capsys):
    """One line that names the place, exit code 1, no traceback, and nothing left behind."""
    write_wfdb(tmp_path / "data", "a", seconds=10)
    (tmp_path / "folder.parquet").mkdir()
    (tmp_path / "file").write_text("x")
    before = sorted(tmp_path.rglob("*"))
    data, out = str(tmp_path / "data"), str(tmp_path / "e.parquet")
    convert = ["convert", str(tmp_path / "file"), "--out", str(tmp_path / "new")]
    for arguments, said in (
        (["embed", data, "--weights", weights, "--out", out[:-8]], "ends with .parquet"),
        (["embed", data, "--weights", weights, "--out", out, "--window", "0.1"], "at least 1 s"),
        (["embed", data, "--weights", data, "--out", out], f"{data}: no checkpoint here"),
        (["embed", data, "--weights", data + "x", "--out", out], f"{data}x: no checkpoint here"),
        (["embed", data, "--weights", weights, "--out", str(tmp_path / "folder.parquet")],
         f"{tmp_path / 'folder.parquet'}: is a folder"),
        (["embed", data, "--weights", weights, "--out", str(tmp_path / "file/e.parquet")],
         f"{tmp_path / 'file'}"),
        (["info", data], f"{data}: no checkpoint here"),
        (["info", str(tmp_path / "file")], "file: no checkpoint here"),
        (convert, "file: not a zip-format PyTorch checkpoint"),
        ([*convert[:1], data, *convert[2:]], f"{data}: is a folder; expected a PyTorch file"),
        ([*convert[:1], str(tmp_path / "absent"), *convert[2:]], str(tmp_path / "absent")),
        ([*convert, "--to_torch"], "file: no checkpoint here"),
    ):  # fmt: skip
        assert cli.main(arguments) == 1, arguments
        printed = capsys.readouterr()
        assert said in printed.err and printed.err.startswith(f"clef-jax {arguments[0]}: ")
        assert printed.err.count("\n") == 1
        assert sorted(tmp_path.rglob("*")) == before, arguments
