"""DICOM, CSV, NPY and WFDB files against what wrote or ships them."""

import pathlib

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from clef_jax.data.recordings import OpenRecording, formats, open_recording, read_recording
from clef_jax.data.recordings.arrays import array_recording
from clef_jax.data.recordings.folders import Found, search_folder
from clef_jax.data.recordings.opened import make_header
from clef_jax.data.recordings.recording import Hints, RecordingError
from clef_jax.data.signals.leads import STANDARD_LEADS
from clef_jax.data.windows.cut import WindowSettings, read_windows
from clef_jax.data.windows.pool import ReadTask, Request, run_task
from clef_jax.data.windows.sources import Source

DICOM = get_testdata_file("waveform_ecg.dcm", download=False)
DICOM_BYTES = pathlib.Path(DICOM).read_bytes()


def test_dicom_is_the_rhythm_strip_in_millivolts():
    recording = read_recording(DICOM)
    assert recording.leads == STANDARD_LEADS
    assert (recording.fs, recording.signal_mv.shape) == (1000.0, (12, 10_000))
    assert (recording.patient, recording.age, recording.sex) == ("642341", 42.0, "female")
    # 1.25 µV a step, by the object's Channel Sensitivity
    raw = pydicom.dcmread(DICOM).WaveformSequence[0].WaveformData
    raw = np.frombuffer(raw, "<i2").reshape(10_000, 12)
    np.testing.assert_allclose(recording.signal_mv, raw.T * 1.25e-3, rtol=0, atol=1e-12)
    limb = dict(zip(recording.leads, recording.signal_mv, strict=True))
    np.testing.assert_allclose(limb["III"], limb["II"] - limb["I"], rtol=0, atol=0.005)


def test_parts_and_leads_of_a_dicom():
    whole = read_recording(DICOM)
    part = read_recording(DICOM, leads=["lead v2", "avr"], start=100, stop=250)
    assert part.leads == ("V2", "aVR")
    np.testing.assert_array_equal(part.signal_mv, whole.signal_mv[[7, 3], 100:250])


def test_dicom_leads_by_code_baseline_and_padding(tmp_path):
    dataset = pydicom.dcmread(DICOM)
    group = dataset.WaveformSequence[0]
    channel = group.ChannelDefinitionSequence[0]
    channel.ChannelSourceSequence[0].CodeMeaning = "Ableitung eins"
    channel.ChannelBaseline = "80"
    samples = np.frombuffer(group.WaveformData, "<i2").reshape(10_000, 12).copy()
    samples[5, 0] = -32768
    group.WaveformData = samples.tobytes()
    group.add_new("WaveformPaddingValue", "OW", np.int16(-32768).tobytes())
    dataset.save_as(tmp_path / "coded")
    actual = read_recording(tmp_path / "coded")
    assert actual.leads[0] == "I"
    expected = samples[:, 0] * 1.25e-3 + 0.08
    expected[5] = np.nan
    np.testing.assert_allclose(actual.signal_mv[0], expected, rtol=0, atol=1e-12)


def test_dicom_without_waveforms_or_units(tmp_path):
    image = get_testdata_file("CT_small.dcm", download=False)
    with pytest.raises(RecordingError, match="without a Waveform Sequence .CT"):
        read_recording(image)
    dataset = pydicom.dcmread(DICOM)
    channels = dataset.WaveformSequence[0].ChannelDefinitionSequence
    channels[0].ChannelSensitivityUnitsSequence[0].CodeValue = "mm[Hg]"
    dataset.save_as(tmp_path / "pressure.dcm")
    recording = open_recording(tmp_path / "pressure.dcm")
    assert recording.left_out == ("Lead I: unit 'mm[Hg]', expected mV, uV, µV, nV or V",)
    np.testing.assert_array_equal(recording.read().signal_mv, read_recording(DICOM).signal_mv[1:])
    with pytest.raises(RecordingError, match="lead I not found; .*left out: Lead I: unit 'mm.Hg.'"):
        recording.read(leads=["I"])
    for group in dataset.WaveformSequence:
        for channel in group.ChannelDefinitionSequence:
            del channel.ChannelSensitivityUnitsSequence
    dataset.save_as(tmp_path / "bare.dcm")
    with pytest.raises(RecordingError, match="bare.dcm: no channel is an ECG: Lead I: no unit"):
        read_recording(tmp_path / "bare.dcm")
    (tmp_path / "cut.dcm").write_bytes(DICOM_BYTES[:20_000])
    with pytest.raises(RecordingError, match="cut.dcm"):
        read_recording(tmp_path / "cut.dcm")


def test_csv_with_and_without_names(tmp_path):
    signal = np.random.default_rng(0).normal(size=(2, 50))
    signal[1, 7] = np.nan
    columns = np.column_stack([np.arange(50) / 250, *signal])
    named = tmp_path / "named.csv"
    np.savetxt(named, columns, delimiter=",", header="time,lead II,avf", comments="")
    recording = read_recording(named, fs=250)
    assert (recording.leads, recording.fs) == (("II", "aVF"), 250.0)
    np.testing.assert_allclose(recording.signal_mv, signal)

    np.savetxt(tmp_path / "plain.tsv", signal.T, delimiter="\t")
    assert read_recording(tmp_path / "plain.tsv", fs=250).leads == ("signal 0", "signal 1")
    recording = read_recording(tmp_path / "plain.tsv", fs=250, lead_names=["I", "v5"])
    assert recording.leads == ("I", "V5")
    np.testing.assert_allclose(recording.signal_mv, signal)
    with pytest.raises(RecordingError, match="2 leads, but 1 lead names"):
        read_recording(tmp_path / "plain.tsv", fs=250, lead_names=["I"])
    with pytest.raises(RecordingError, match="no sampling rate.*--fs"):
        read_recording(named)
    (tmp_path / "words.csv").write_text("name,diagnosis\na,sinus rhythm\n")
    with pytest.raises(RecordingError, match="words.csv.*not a table of samples"):
        read_recording(tmp_path / "words.csv", fs=250)


def test_columns_that_are_no_ecg(tmp_path):
    signal = np.random.default_rng(0).normal(size=(4, 50))
    header = "II,PLETH,ECG1,II"
    np.savetxt(tmp_path / "a.csv", signal.T, delimiter=",", header=header, comments="")
    recording = open_recording(tmp_path / "a.csv", fs=250, lead_names=header.split(","))
    assert recording.header.leads == ("II", "ECG1", "II (2)")
    assert recording.left_out == ("PLETH: by its label no ECG",)
    np.testing.assert_allclose(recording.read().signal_mv, signal[[0, 2, 3]])
    np.testing.assert_allclose(recording.read(leads=["ii (2)"]).signal_mv, signal[3:])


def test_npy_of_either_orientation_and_no_pickles(tmp_path):
    signal = np.random.default_rng(0).normal(size=(3, 40)).astype(np.float32)
    for name, array in (("a.npy", signal), ("b.npy", signal.T), ("c.npy", signal[0])):
        np.save(tmp_path / name, array)
    for name in ("a.npy", "b.npy"):
        np.testing.assert_array_equal(read_recording(tmp_path / name, fs=500).signal_mv, signal)
    recording = read_recording(tmp_path / "c.npy", fs=500, start=3, stop=9)
    assert recording.leads == ("ECG",)
    np.testing.assert_array_equal(recording.signal_mv, signal[:1, 3:9])
    np.save(tmp_path / "objects.npy", np.array([{}, None]), allow_pickle=True)
    with pytest.raises(RecordingError, match="objects.npy.*not a plain"):
        read_recording(tmp_path / "objects.npy", fs=500)
    np.save(tmp_path / "deep.npy", np.zeros((2, 3, 4)))
    with pytest.raises(RecordingError, match="deep.npy"):
        read_recording(tmp_path / "deep.npy", fs=500)


def test_absent_leads_and_ranges_and_formats(tmp_path):
    with pytest.raises(RecordingError, match="lead V9 not found; the recording has I, II"):
        read_recording(DICOM, leads=["V9"])
    with pytest.raises(RecordingError, match="samples 20000"):
        read_recording(DICOM, start=20_000)
    (tmp_path / "a.atr").write_bytes(b"x")
    with pytest.raises(RecordingError, match="no supported format has the suffix '.atr'"):
        read_recording(tmp_path / "a.atr")


def test_wfdb_goes_through_the_readers(real_data):
    path = real_data / "ptb-xl/records500/00000/00001_hr"
    expected = read_recording(path, leads=["V1", "I"], start=7, stop=900)
    for name in (path, f"{path}.hea", f"{path}.dat"):
        actual = read_recording(name, leads=["V1", "I"], start=7, stop=900)
        assert actual.leads == expected.leads
        np.testing.assert_array_equal(actual.signal_mv, expected.signal_mv)


def write_wfdb(folder, name, steps, channels):
    """Writes int16 [channels, samples] at 250 Hz; `channels` are (gain/unit, label)."""
    lines = [f"{name} {len(channels)} 250 {steps.shape[1]}"]
    lines += [f"{name}.dat 16 {gain} 16 0 0 0 0 {label}" for gain, label in channels]
    (folder / f"{name}.hea").write_text("\n".join(lines) + "\n")
    steps.T.astype("<i2").tofile(folder / f"{name}.dat")
    return folder / f"{name}.hea"


def test_a_monitor_record_in_wfdb(tmp_path):
    steps = np.random.default_rng(0).integers(-800, 800, (6, 3000))
    channels = [("1000/mV", "II"), ("50/NU", "PLETH"), ("1000/mV", "ECG ii"), ("10/mmHg", "ABP")]
    channels += [("500/mV", "2"), ("1/uV", "RESP")]
    path = write_wfdb(tmp_path, "m", steps, channels)
    opened = open_recording(path)
    assert opened.header.leads == ("II", "II (2)", "2")
    assert opened.left_out == (
        "PLETH: unit 'NU', expected mV, uV, µV, nV or V",
        "ABP: unit 'mmHg', expected mV, uV, µV, nV or V",
        "RESP: by its label no ECG",
    )
    expected = steps[[0, 2, 4]] / np.array([1000, 1000, 500])[:, None]
    np.testing.assert_allclose(opened.read().signal_mv, expected, rtol=0, atol=1e-12)
    # as `--lead all` reads it
    source = Source(str(path), "m")
    (block,) = run_task(ReadTask((source,)), Request(WindowSettings(leads=("all",))))
    assert block.windows.lead == ["II", "II (2)", "2"]
    for row, lead in enumerate(expected):
        alone = array_recording(lead, 250, "I", None)
        x = read_windows(alone, [0], [0], WindowSettings()).x[0]
        np.testing.assert_allclose(block.windows.x[row], x, rtol=0, atol=1e-6)


def test_a_format_is_a_row_of_the_table(tmp_path, monkeypatch):
    """What knows suffixes, openers and rates asks the table, and so does the search of folders."""

    def open_text(path, hints):
        signal_mv = np.loadtxt(path)[None]
        header = make_header(path, hints.fs, ["II"], signal_mv.shape[1])
        return OpenRecording(header, lambda rows, start, stop: signal_mv[rows, start:stop])

    np.savetxt(tmp_path / "a.xyz", np.arange(50.0))
    with pytest.raises(RecordingError, match="no supported format has the suffix '.xyz'"):
        open_recording(tmp_path / "a.xyz", fs=500)
    assert search_folder(tmp_path, Hints(fs=500.0)) == ([], [])
    row = formats.Format("XYZ", (".xyz",), open_text, needs_rate=True)
    monkeypatch.setattr(formats, "FORMATS", (*formats.FORMATS, row))
    recording = read_recording(tmp_path / "a.xyz", fs=500, start=3, stop=9)
    np.testing.assert_array_equal(recording.signal_mv, [np.arange(3.0, 9.0)])
    with pytest.raises(RecordingError, match="a.xyz: this format carries no sampling rate"):
        open_recording(tmp_path / "a.xyz")
    assert search_folder(tmp_path) == ([], [])
    found, _ = search_folder(tmp_path, Hints(fs=500.0))
    assert found == [Found(str(tmp_path / "a.xyz"), "a")]
    assert formats.needs_rate("a.XYZ") and formats.without_suffix("b/a.xyz") == "b/a"
    assert "MATLAB and XYZ files count if --fs" in formats.expected_files()
