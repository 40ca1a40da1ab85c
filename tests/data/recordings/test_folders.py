"""What folders are searched for, and what is said of files that are found but not read."""

import os
import pathlib
import re

import numpy as np
import pytest
from pydicom.data import get_testdata_file
from scipy.io import savemat

from clef_jax.data.recordings import read_recording
from clef_jax.data.recordings.columns import why_table
from clef_jax.data.recordings.folders import search_folder
from clef_jax.data.recordings.recording import Hints, RecordingError
from clef_jax.data.signals.leads import STANDARD_LEADS
from clef_jax.data.windows.sources import find_sources

DICOM_BYTES = pathlib.Path(get_testdata_file("waveform_ecg.dcm", download=False)).read_bytes()


def write_cpsc2018(path, signal, **about):
    savemat(path, {"ECG": {"sex": "Female", "age": 74, "data": signal} | about})


def test_folders_are_searched_for_every_format(tmp_path):
    for name in ("b.edf", "sub/a.hea", "sub/a.mat", "c.hea", "c.dat", "notes.txt", "x.npy"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for name in ("table.csv", "z.mat", "notes.xml", "RECORDS"):
        (tmp_path / name).touch()
    (tmp_path / "IM0001").write_bytes(DICOM_BYTES)

    def found(**kwargs):
        recordings, _ = search_folder(tmp_path, Hints(**kwargs))
        return [os.path.relpath(recording.path, tmp_path) for recording in recordings]

    assert found() == ["IM0001", "b.edf", "c", "sub/a"]
    assert found(fs=500) == ["IM0001", "b.edf", "c", "sub/a", "table.csv", "x.npy", "z.mat"]


def test_what_cannot_be_read_is_reported_with_the_remedy(tmp_path):
    contents = {
        "exams_part0.hdf5": b"\x89HDF", "a.wav": b"RIFF", "b.SCP": b"x", "c.h5": b"\x89HDF",
        "muse.xml": b"<?xml version='1.0'?>\n<RestingECG>", "pom.xml": b"<project/>",
        "hl7.xml": b"<AnnotatedECG xmlns='urn:hl7-org:v3'>", "d.mat": b"MATLAB 5.0", "e.txt": b"",
    }  # fmt: skip
    (tmp_path / "sub").mkdir()
    for name, content in contents.items():
        (tmp_path / "sub" / name).write_bytes(content)
    np.save(tmp_path / "fine.npy", np.zeros(10))
    sources, failures = find_sources([str(tmp_path)], Hints(fs=500))
    assert [source.record for source in sources] == ["fine", "sub/d"]
    found = {failure.source.record: failure.error for failure in failures}
    assert sorted(found) == ["sub/a", "sub/b", "sub/c", "sub/exams_part0", "sub/hl7", "sub/muse"]
    for record, format_name in (
        ("a", "sound"),
        ("exams_part0", "CODE-15: 400 Hz"),
        ("muse", "XML"),
    ):
        assert format_name in found[f"sub/{record}"]
    for failure in failures:
        assert not failure.skipped
        assert failure.source.file in failure.error and ".npy and give --fs" in failure.error
    # Without the rate nothing can be read.
    sources, failures = find_sources([str(tmp_path)])
    assert sources == []
    found = {failure.source.record: failure.error for failure in failures}
    assert "without a .hea beside it" in found["sub/d"] and "(--fs)" in found["sub/d"]
    assert "holds no recording" in found[""] and "MATLAB files count if --fs" in found[""]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ecg_id,scp_codes\n1,\"{'NORM': 100.0}\"\n", "holds \"{'NORM': 100.0}\""),
        ("record,label\nA0001,1\nA0002,3\n", "holds 'A0001'"),
        ("A0001,1\nA0002,3\n", "holds 'A0002'"),
        ("patient_id,age,sex,label\n1,61,0,1\n2,70,1,0\n", r"columns .patient_id, age, sex, label"),
        ("ecg_id,age,death\n1,61,0\n2,70,1\n", "columns .ecg_id, age, death"),
        ("id\tfold\n1\t1\n", "columns .id, fold"),
        ("file,record,error\n", "columns .file, record, error"),
    ],
)
def test_tables_of_something_else(tmp_path, text, why):
    path = tmp_path / ("t.tsv" if "\t" in text else "t.csv")
    path.write_text(text)
    assert re.search(why, why_table(str(path)))


@pytest.mark.parametrize(
    "text",
    [
        "I,II,V1\n" + "0.1,0.2,nan\n" * 50,
        "time,ECG\n" + "2020-01-01 10:00:00,0.1\n" * 50,
        "timestamp,mlii\n" + "1,0.1\n" * 50,
        "ch1,ch2\n" + "1,-0.1\n" * 50,
        "0.1,0.2\n" * 50,
        "0.1\n,\n1e-3\n",
        "I,II\n" + "0.125,0.25\n" * 20_000,
        "",
    ],
)
def test_signals_are_no_tables(tmp_path, text):
    (tmp_path / "s.csv").write_text(text)
    assert why_table(str(tmp_path / "s.csv")) is None


def test_tables_beside_signals_are_skipped_but_no_failure(tmp_path):
    np.savetxt(tmp_path / "a.csv", np.zeros((50, 2)), delimiter=",", header="I,II", comments="")
    np.savetxt(
        tmp_path / "b.csv", np.zeros((50, 2)), delimiter=",", header="left,right", comments=""
    )
    (tmp_path / "labels.csv").write_text("record,label\na,1\n")
    sources, failures = find_sources([str(tmp_path)], Hints(fs=500))
    assert [source.record for source in sources] == ["a"]
    assert [(f.source.record, f.skipped) for f in failures] == [("b", True), ("labels", True)]
    assert "skipped as a table" in failures[0].error and "--lead_names" in failures[0].error
    for paths, lead_names in (
        ([tmp_path], ("I", "II")),
        ([tmp_path / "a.csv", tmp_path / "b.csv"], None),
    ):
        sources, _ = find_sources(map(str, paths), Hints(500, lead_names))
        assert {"a", "b"} <= {source.record for source in sources}


def test_matlab_files_of_cpsc2018(tmp_path):
    signal = np.random.default_rng(0).normal(size=(12, 5000))
    write_cpsc2018(tmp_path / "A0001.mat", signal)
    recording = read_recording(tmp_path / "A0001.mat", fs=500, leads=["V6", "II"], start=7, stop=99)
    assert (recording.leads, recording.fs) == (("V6", "II"), 500)
    assert (recording.age, recording.sex) == (74, "female")
    np.testing.assert_array_equal(recording.signal_mv, signal[[11, 1], 7:99])
    assert read_recording(tmp_path / "A0001.mat", fs=500).leads == STANDARD_LEADS
    write_cpsc2018(tmp_path / "b.mat", signal.T, age=np.nan, sex=np.zeros(0))
    recording = read_recording(tmp_path / "b.mat", fs=500)
    assert (recording.age, recording.sex, recording.signal_mv.shape) == (None, None, (12, 5000))


def test_matlab_files_of_numbers(tmp_path):
    signal = np.random.default_rng(0).normal(size=(2, 400))
    contents = {
        "val": {"val": signal, "other": np.zeros((3, 70))},
        "only": {"x": signal.T, "fs": 250.0, "name": "a b"},
        "old": {"x": signal},
    }
    for name, content in contents.items():
        savemat(tmp_path / f"{name}.mat", content, format="4" if name == "old" else "5")
        found = read_recording(tmp_path / f"{name}.mat", fs=250, lead_names=["II", "V5"])
        assert found.leads == ("II", "V5")
        np.testing.assert_array_equal(found.signal_mv, signal)
    assert read_recording(tmp_path / "val.mat", fs=250).leads == ("signal 0", "signal 1")
    with pytest.raises(RecordingError, match="2 leads, but 1 lead names"):
        read_recording(tmp_path / "val.mat", fs=250, lead_names=["II"])


def test_matlab_files_that_are_none_or_hold_none(tmp_path):
    savemat(tmp_path / "two.mat", {"a": np.zeros((2, 9)), "b": np.zeros((2, 9))})
    savemat(tmp_path / "text.mat", {"a": "words"})
    savemat(tmp_path / "deep.mat", {"a": np.zeros((2, 9, 4))})
    (tmp_path / "hdf.mat").write_bytes(
        b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(99)
    )
    whole = tmp_path / "two.mat"
    (tmp_path / "cut.mat").write_bytes(whole.read_bytes()[:-50])
    (tmp_path / "junk.mat").write_bytes(b"not MATLAB at all" * 20)
    (tmp_path / "empty.mat").touch()
    for name, message in (
        ("two", r"holds a \(2, 9\) float64, b .*variable val"),
        ("text", "holds a "),
        ("deep", r"holds a \(2, 9, 4\)"),
        ("hdf", "MATLAB 7.3, which is HDF5; save it"),
        ("cut", "cannot be read .could not read bytes"),
        ("junk", "not a readable MATLAB file"),
        ("empty", "not a readable MATLAB file"),
        ("gone", "cannot be read .No such file"),
    ):
        with pytest.raises(RecordingError, match=rf"{name}\.mat: {message}"):
            read_recording(tmp_path / f"{name}.mat", fs=250)
    with pytest.raises(
        RecordingError, match=r"two\.mat: a MATLAB file without a \.hea beside it.*--fs"
    ):
        read_recording(whole)
