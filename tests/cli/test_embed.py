"""The command `clef-jax embed`: the table that it writes, what it skips, and what it reports."""

import json
import os
import re
import shutil

import numpy as np
import pyarrow.parquet as pq
import pydicom.data
import pytest

from clef_jax.data.shards.format import signed
from clef_jax.data.shards.store import ShardSet
from clef_jax.data.shards.write import write_shards
from clef_jax.inference import load_encoder
from tests.embed_runs import embed, errors, save, tiny_encoder, write_wfdb

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
