"""Shards of recordings of every format, of any montage, of each window of long ones."""

import os
import pathlib
import shutil
import subprocess
import sys
import tracemalloc

import numpy as np
import pandas as pd
import pydicom
import pyedflib
import pytest
from pydicom.data import get_testdata_file

from clef_jax.data.recordings.recording import Hints
from clef_jax.data.shards.left_out import RejectionKind
from clef_jax.data.shards.plan import WriteOptions
from clef_jax.data.shards.prepare import prepare_record
from clef_jax.data.shards.store import ShardSet
from clef_jax.data.signals.leads import STANDARD_LEADS
from clef_jax.data.signals.montage import ECG, montage_of_leads
from clef_jax.data.signals.preprocessing import preprocess
from clef_jax.data.windows.cut import WindowSettings
from clef_jax.data.windows.pool import Request, read_sources
from clef_jax.data.windows.sources import find_sources
from tests.shard_records import contents, ecg, notes, rejections, write, write_record

ROOT = pathlib.Path(__file__).resolve().parents[3]
DICOM = pathlib.Path(get_testdata_file("waveform_ecg.dcm", download=False))
EDF = pathlib.Path(pyedflib.__file__).parent / "data/test_generator.edf"


# The band-pass turns a difference in the last bit of its input, as another order of multiplying by
# the unit makes, into so much of a lead's range.
ILL_CONDITIONED = 2e-3


def assert_holds(shards, entry, leads_mv, fs, tolerance=0.0):
    """Asserts that an entry is what preprocessing makes of a window, to half a step."""
    names = [shards.montage.leads[i] for i in shards.lead_ids[entry] if i >= 0]
    assert names == list(leads_mv)
    steps = shards.read([entry] * len(names), range(len(names)))
    scale_mv = shards.scale_mv[entry, : len(names), None].astype(np.float64)
    expected = preprocess(np.stack(list(leads_mv.values())), fs, shards.spec)
    error = np.abs(steps * scale_mv - expected)
    assert (error <= 0.501 * scale_mv + tolerance * np.ptp(expected, axis=1, keepdims=True)).all()


def test_a_dicom_waveform(tmp_path):
    (tmp_path / "in/sub").mkdir(parents=True)
    shutil.copy(DICOM, tmp_path / "in/sub/IM0001")  # without suffix, as on a cart's disc
    report = write(tmp_path / "in", tmp_path / "out")
    assert report.recordings == 1 and not report.rejected and not report.notes
    shards = ShardSet(tmp_path / "out")
    assert list(shards.record) == ["sub/IM0001"] and list(shards.patient) == ["642341"]
    assert shards.annotations.columns["age"] == [42] and shards.annotations.columns["male"] == [0]
    raw = np.frombuffer(pydicom.dcmread(DICOM).WaveformSequence[0].WaveformData, "<i2")
    signal_mv = raw.reshape(10_000, 12).T * 1.25e-3
    assert_holds(shards, 0, dict(zip(STANDARD_LEADS, signal_mv, strict=True)), 1000.0)


def test_every_window_of_an_edf_of_any_montage(tmp_path):
    (tmp_path / "in").mkdir()
    shutil.copy(EDF, tmp_path / "in/generator.edf")
    options = WriteOptions(montage=montage_of_leads(["noise", "sine 8.5 Hz"]), all_windows=True)
    report = write(tmp_path / "in", tmp_path / "out", options=options)
    assert report.recordings == 1 and report.windows == 60 and not report.rejected
    assert "windows of these        60" in str(report)
    shards = ShardSet(tmp_path / "out")
    assert shards.montage.leads == ("noise", "sine 8.5 Hz")
    np.testing.assert_array_equal(shards.start_s, 10.0 * np.arange(60))
    assert set(shards.record) == {"generator"}
    with pyedflib.EdfReader(str(EDF)) as reader:
        labels = reader.getSignalLabels()
        at = {name: labels.index(name) for name in shards.montage.leads}
        assert {reader.getPhysicalDimension(i) for i in at.values()} == {"uV"}
        signals_mv = {name: reader.readSignal(i) / 1000 for name, i in at.items()}
        fs = reader.getSampleFrequency(0)
    length = round(10 * fs)
    for entry in (0, 1, 59):
        part = {name: x[entry * length :][:length] for name, x in signals_mv.items()}
        assert_holds(shards, entry, part, fs, ILL_CONDITIONED)
    said = notes(tmp_path / "out")
    assert set(said) == {
        ("generator", "leads outside the montage"), ("generator", "channels that are no ECG")
    }  # fmt: skip
    assert "sine 1 Hz, sine 8 Hz" in said["generator", "leads outside the montage"]
    assert said["generator", "channels that are no ECG"] == "pulse: by its label no ECG"


@pytest.fixture(scope="module")
def holters(real_data, tmp_path_factory):
    """Every window of two half-hour records of two leads, in a montage of five."""
    folder = tmp_path_factory.mktemp("holters")
    (folder / "in").mkdir()
    for name in ("100", "217"):
        for suffix in (".hea", ".dat"):
            shutil.copy(real_data / "mitdb" / f"{name}{suffix}", folder / "in")
    montage = montage_of_leads(["MLII", "V1", "V2", "V4", "V5"])
    options = WriteOptions(montage=montage, all_windows=True, min_leads=2)
    return folder, write(folder / "in", folder / "out", options=options)


def test_every_window_of_holters_of_two_leads(holters, real_data):
    folder, report = holters
    shards = ShardSet(folder / "out")
    assert report.records_in == report.recordings == report.patients == 2
    assert report.windows == len(shards) == 2 * 180 - sum(report.rejected.values())
    assert [shards.montage.leads[i] for i in shards.lead_ids[0] if i >= 0] == ["MLII", "V5"]
    assert [shards.montage.leads[i] for i in shards.lead_ids[-1] if i >= 0] == ["MLII", "V1"]
    steps = np.fromfile(real_data / "mitdb/100.dat", "u1").reshape(-1, 3).astype(int)
    # Format 212: two samples of 12 bits in three bytes, 200 steps a mV around 1024.
    pairs = [steps[:, 0] | (steps[:, 1] & 15) << 8, steps[:, 2] | (steps[:, 1] >> 4) << 8]
    assert max(map(np.max, pairs)) < 2048
    entry = int(np.flatnonzero(shards.start_s == 1000.0)[0])
    part = slice(1000 * 360, 1010 * 360)
    mlii, v5 = ((channel[part] - 1024) / 200 for channel in pairs)
    assert_holds(shards, entry, {"MLII": mlii, "V5": v5}, 360.0)


def test_bad_windows_are_rejected_with_their_start(tmp_path):
    steps = np.concatenate([ecg(i) for i in range(6)], axis=1)
    steps[:, 12_000:13_000] = -32768  # two seconds of the third window are missing in all leads
    steps[6, 20_000:25_000] = 0  # V1 of the fifth is flat
    write_record(tmp_path / "in/a", steps)
    options = WriteOptions(all_windows=True, min_leads=11)
    report = write(tmp_path / "in", tmp_path / "out", options=options)
    assert report.windows == 5 and report.rejected == {RejectionKind.BAD_LEADS: 1}
    row = rejections(tmp_path / "out")["a"]
    assert row["start_s"] == "20.000" and row["kind"] == "bad leads"
    assert "V1 non-finite in 20% of samples" in row["reason"]
    shards = ShardSet(tmp_path / "out")
    assert list(shards.start_s) == [0, 10, 30, 40, 50]
    assert list(shards.n_leads) == [12, 12, 12, 11, 12]
    assert notes(tmp_path / "out") == {("a", "bad leads"): "V1 flat: 0 µV peak to peak"}


def test_of_a_long_record_the_first_window_is_taken_and_that_is_said(tmp_path):
    write_record(tmp_path / "in/half_hour", ecg(0, seconds=1800, leads=3)[:1], leads=("II",))
    write_record(tmp_path / "in/ten_seconds", ecg(1))
    options = WriteOptions(min_leads=1)
    report = write(tmp_path / "in", tmp_path / "out", options=options)
    shards = ShardSet(tmp_path / "out")
    assert list(shards.record) == ["half_hour", "ten_seconds"] and not shards.start_s.any()
    (said,) = notes(tmp_path / "out").items()
    assert said == (
        ("half_hour", "first window only"),
        "the first of 180 windows of 10 s; --windows=all takes every one",
    )
    assert report.notes == {"first window only": 1} and "1  first window only" in str(report)


def test_numbers_whose_rate_is_given(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    leads_mv = ecg(0, fs=250) / 1000.0
    pd.DataFrame(1000 * leads_mv.T, columns=[f"{lead} (uV)" for lead in STANDARD_LEADS]).to_csv(
        folder / "table.csv", index=False
    )
    np.save(folder / "array.npy", ecg(1, fs=250) / 1000.0)
    (folder / "labels.csv").write_text("record,label\ntable,1\n")
    (folder / "song.wav").write_bytes(b"RIFF")
    hints = Hints(250.0, lead_names=None)
    report = write(folder, tmp_path / "out", options=WriteOptions(hints=hints))
    assert report.rejected == {"missing leads": 1, "unsupported format": 1}
    found = rejections(tmp_path / "out")
    assert found["song"]["file"] == str(folder / "song.wav") and not found["song"]["start_s"]
    assert "only signal 0, signal 1" in found["array"]["reason"]
    (((record, kind), note),) = notes(tmp_path / "out").items()
    assert (record, kind) == ("labels", "tables") and "skipped as a table" in note
    leads_mv = dict(zip(STANDARD_LEADS, leads_mv, strict=True))
    assert_holds(ShardSet(tmp_path / "out"), 0, leads_mv, 250.0, ILL_CONDITIONED)

    hints = Hints(250.0, STANDARD_LEADS)
    report = write(folder, tmp_path / "named", options=WriteOptions(hints=hints))
    shards = ShardSet(tmp_path / "named")
    assert list(shards.record) == ["array", "table"]
    leads_mv = dict(zip(STANDARD_LEADS, ecg(1, fs=250) / 1000.0, strict=True))
    assert_holds(shards, 0, leads_mv, 250.0)


def test_files_that_differ_in_their_suffix_only(tmp_path):
    folder = tmp_path / "in"
    write_record(folder / "a", ecg(0))
    np.save(folder / "a.npy", ecg(1) / 1000.0)
    shutil.copy(DICOM, folder / "b.dcm")
    options = WriteOptions(hints=Hints(500.0, STANDARD_LEADS))
    report = write(folder, tmp_path / "all", options=options)
    assert list(ShardSet(tmp_path / "all").record) == ["a", "b"]
    assert report.records_in == 3 and report.rejected == {"duplicate record": 1}
    row = rejections(tmp_path / "all")["a"]
    assert row["file"] == str(folder / "a.npy")
    assert "record a is already a; rename one of the files, or list" in row["reason"]

    pd.DataFrame({"path": ["a.npy", "b.dcm"], "subject_id": ["p", "q"]}).to_csv(
        tmp_path / "list.csv", index=False
    )
    write(folder, tmp_path / "listed", options=options, record_list=str(tmp_path / "list.csv"))
    shards = ShardSet(tmp_path / "listed")
    assert list(shards.record) == ["a", "b"] and list(shards.patient) == ["p", "q"]
    leads_mv = dict(zip(STANDARD_LEADS, ecg(1) / 1000.0, strict=True))
    assert_holds(shards, 0, leads_mv, 500.0)


@pytest.mark.parametrize("linked", ["a.npy", "b.dcm"])
def test_no_file_of_a_list_leads_out_of_the_folder(tmp_path, linked):
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "a.npy", ecg(1) / 1000.0)
    shutil.copy(DICOM, tmp_path / "b.dcm")
    for name in ("a.npy", "b.dcm"):
        if name == linked:
            (tmp_path / "in" / name).symlink_to(tmp_path / name)
        else:
            shutil.copy(tmp_path / name, tmp_path / "in" / name)
    pd.DataFrame({"path": ["a.npy", "b.dcm"]}).to_csv(tmp_path / "list.csv", index=False)
    options = WriteOptions(hints=Hints(500.0, STANDARD_LEADS))
    report = write(
        tmp_path / "in", tmp_path / "out", options=options, record_list=str(tmp_path / "list.csv")
    )
    assert report.rejected == {"outside the records folder": 1}
    assert list(rejections(tmp_path / "out")) == [linked[0]]


def test_a_montage_without_the_leads_of_a_record(tmp_path):
    write_record(tmp_path / "in/a", ecg(0)[:2], leads=("II", "V5"))
    write_record(tmp_path / "in/b", ecg(1)[:1], leads=("V1",))
    options = WriteOptions(montage=montage_of_leads(["v5", "MLII"]))
    write(tmp_path / "in", tmp_path / "out", options=options)
    assert list(ShardSet(tmp_path / "out").record) == ["a"]
    reason = rejections(tmp_path / "out")["b"]["reason"]
    assert reason == "missing leads: none of V5, MLII, only V1"
    assert notes(tmp_path / "out") == {("a", "leads outside the montage"): "II"}


def test_a_record_that_breaks_off_keeps_what_was_read(tmp_path):
    folder = tmp_path / "in"
    for number in (1, 2):
        write_record(folder / f"r_{number}", ecg(number, seconds=20))
    (folder / "r.hea").write_text("r/2 12 500 20000\nr_1 10000\nr_2 10000\n")
    os.truncate(folder / "r_2.dat", 1000)
    options = WriteOptions(all_windows=True)
    report = write(folder, tmp_path / "out", options=options)
    assert report.windows == 2 and report.rejected == {"unreadable": 1}
    (row,) = rejections(tmp_path / "out").values()
    assert row["start_s"] == "20.000"
    reason = row["reason"]
    assert reason.startswith("unreadable after the window at 10 s: ") and "r_2.dat" in reason
    said = str(report).splitlines()
    for line in ("records in                   1", "  written                    1",
                 "  rejected                   0", "            1  unreadable"):  # fmt: skip
        assert line in said


def test_a_record_whose_first_window_cannot_be_read_is_left_out_whole(tmp_path):
    write_record(tmp_path / "in/good", ecg(0))
    write_record(tmp_path / "in/r_1", ecg(1, seconds=20))
    (tmp_path / "in/r.hea").write_text("r/1 12 500 10000\nr_1 10000\n")
    os.truncate(tmp_path / "in/r_1.dat", 1000)
    report = write(tmp_path / "in", tmp_path / "out", options=WriteOptions(all_windows=True))
    row = rejections(tmp_path / "out")["r"]
    assert row["start_s"] == "" and row["reason"].startswith("unreadable: ")
    assert "  rejected                   1" in str(report).splitlines()


def test_the_windows_of_a_long_record_take_the_memory_of_few(tmp_path):
    samples = 3600 * 250
    steps = np.random.default_rng(0).integers(-900, 900, (2, samples), dtype="<i2")
    write_record(tmp_path / "r", steps, leads=("II", "V5"), fs=250)
    options = WriteOptions(montage=montage_of_leads(["II", "V5"]), all_windows=True)
    tracemalloc.start()
    count = sum(1 for _ in prepare_record(str(tmp_path / "r"), options).windows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 360
    assert peak < steps.nbytes / 2


@pytest.mark.slow
def test_shards_of_every_window_do_not_depend_on_the_workers(holters):
    folder, _ = holters
    run = [
        sys.executable,
        ROOT / "tools/write_shards.py",
        "--records",
        folder / "in",
        "--min_leads=2",
    ]
    run += ["--leads=MLII,V1,V2,V4,V5", "--min_leads=2", "--windows=all", "--workers=2"]
    run += ["--out", folder / "two"]
    subprocess.run(run, check=True, capture_output=True)
    assert contents(folder / "two") == contents(folder / "out")


@pytest.mark.slow
def test_embedding_reads_every_window_that_shards_hold(holters):
    """As it reads the files; a lead that one window lacks is missing in it."""
    folder, _ = holters
    shards = ShardSet(folder / "out")
    settings = WindowSettings(leads=("MLII",))
    sources, failures = find_sources([str(folder / "out")])
    assert failures == [] and [source.record for source in sources] == ["100", "217"]
    assert sum(source.windows for source in sources) == len(shards)
    blocks = list(read_sources(sources, Request(settings), workers=0))
    files, _ = find_sources([str(folder / "in")])
    expected = list(read_sources(files, Request(settings), workers=0))
    for source in ("100", "217"):
        stored, read = (
            {
                start: x
                for block in found
                if block.source.record == source
                for start, x in zip(block.windows.start_s, block.windows.x[:, :, 0], strict=True)
            }
            for found in (blocks, expected)
        )
        assert len(stored) > 100 and set(stored) <= set(read)
        for start, x in stored.items():
            assert np.corrcoef(x, read[start])[0, 1] > 0.999999
        assert sum(b.share for b in blocks if b.source.record == source) == pytest.approx(1)


def test_a_lead_that_one_window_lacks_is_missing_in_it(tmp_path):
    steps = np.concatenate([ecg(i) for i in range(3)], axis=1)
    steps[1, 5000:10_000] = 0
    write_record(tmp_path / "in/a", steps)
    options = WriteOptions(all_windows=True, min_leads=11)
    write(tmp_path / "in", tmp_path / "out", options=options)
    sources, _ = find_sources([str(tmp_path / "out")])
    (block,) = read_sources(sources, Request(WindowSettings(leads=("II",))), workers=0)
    assert block.windows.quality == ["ok", "non-finite", "ok"]
    assert list(block.windows.start_s) == [0, 10, 20] and not block.windows.x[1].any()
    assert ECG.find("II") in block.windows.lead
