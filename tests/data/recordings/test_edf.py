"""EDF and BDF files, written and judged by pyedflib where it can."""

import datetime
import glob
import os
import re
import subprocess

import numpy as np
import pyedflib
import pytest

from clef_jax.data.recordings import edf_file, open_recording, read_recording
from clef_jax.data.recordings.recording import RecordingError
from clef_jax.data.signals import preprocessing

KINDS = {
    "EDF": pyedflib.FILETYPE_EDF,
    "EDF+": pyedflib.FILETYPE_EDFPLUS,
    "BDF": pyedflib.FILETYPE_BDF,
    "BDF+": pyedflib.FILETYPE_BDFPLUS,
}
MV = {"uV": 1e-3, "mV": 1.0, "nV": 1e-6}


def write(path, signals_mv, labels, units="uV", fs=200, kind="EDF+", patient=False):
    """Writes millivolts; `units` and `fs` are for all channels, or one for each."""
    count = len(signals_mv)
    units = [units] * count if isinstance(units, str) else units
    rates = np.broadcast_to(fs, count).tolist()
    bits = 15 if kind.startswith("EDF") else 23
    with pyedflib.EdfWriter(str(path), count, KINDS[kind]) as edf:
        edf.setSignalHeaders(
            [
                {
                    "label": label,
                    "dimension": unit,
                    "sample_frequency": rate,
                    "physical_max": round(5 / MV.get(unit, 1e-3)),
                    "physical_min": -round(5 / MV.get(unit, 1e-3)),
                    "digital_max": 2**bits - 1,
                    "digital_min": -(2**bits),
                }
                for label, unit, rate in zip(labels, units, rates, strict=True)
            ]
        )
        if patient:
            edf.setPatientCode("p17")
            edf.setSex(1)
            edf.setBirthdate(datetime.date(1950, 6, 1))
            edf.setStartdatetime(datetime.datetime(2010, 6, 2, 12))
        edf.writeSamples([x / MV.get(u, 1e-3) for x, u in zip(signals_mv, units, strict=True)])
    return path


def replace_bytes(path, at, content):
    data = bytearray(path.read_bytes())
    data[at : at + len(content)] = content
    path.write_bytes(data)


def oracle(path, channel, unit):
    with pyedflib.EdfReader(str(path)) as edf:
        return edf.readSignal(channel) * MV[unit]


@pytest.fixture
def ecg():
    return np.random.default_rng(0).normal(size=(4, 2400)) * 0.5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("patient", [False, True])
def test_every_kind(tmp_path, ecg, kind, patient):
    labels, units = ["ECG II", "EEG Fpz-Cz", "V1", "ECG3"], ["uV", "uV", "mV", "nV"]
    path = write(tmp_path / f"a.{kind[:3]}", ecg, labels, units, kind=kind, patient=patient)
    recording = read_recording(path)
    assert (recording.leads, recording.fs) == (("II", "V1", "ECG3"), 200.0)
    expected = [oracle(path, i, units[i]) for i in (0, 2, 3)]
    np.testing.assert_allclose(recording.signal_mv, expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(recording.signal_mv, ecg[[0, 2, 3]], rtol=0, atol=10 / 2**15)
    about = (recording.patient, recording.sex, recording.age)
    if patient and kind.endswith("+"):
        assert about == ("p17", "male", pytest.approx(60.0, abs=0.01))
    else:
        assert about == (None, None, None)
    opened = open_recording(path)
    for start, stop in np.sort(np.random.default_rng(1).integers(0, 2400, (30, 2))):
        part = opened.read(leads=["v1", "ecg3"], start=start, stop=stop + 1).signal_mv
        np.testing.assert_array_equal(part, recording.signal_mv[1:, start : stop + 1])


def test_files_that_pyedflib_ships():
    folder = os.path.dirname(pyedflib.__file__)
    compared = 0
    for path in sorted(glob.glob(f"{folder}/**/*.[eb]df", recursive=True)):
        try:
            reader = pyedflib.EdfReader(path)
        except OSError:
            continue
        with reader:
            file = edf_file.read_edf_header(path)
            onsets = edf_file.read_onsets(file)
            labels = [label for label in reader.getSignalLabels() if "Annot" not in label]
            assert [c.label for c in file.channels] == labels
            assert file.records == reader.datarecords_in_file
            for channel in file.channels:
                i = reader.getSignalLabels().index(channel.label)
                assert channel.unit == reader.getPhysicalDimension(i)
                rate = channel.samples / file.record_s
                assert rate == pytest.approx(reader.getSampleFrequency(i))
                begins = np.rint(onsets * rate).astype(np.int64)
                samples = min(reader.getNSamples()[i], 20_000)
                actual = edf_file.read_channel(file, channel, begins, 0, samples)
                expected = reader.readSignal(i, 0, samples)
                tolerance = 1e-6 * np.ptp(channel.physical)
                np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)
                compared += 1
    assert compared >= 20


@pytest.mark.parametrize("kind", ["EDF+", "BDF+"])
def test_gaps_of_a_discontinuous_file(tmp_path, ecg, kind):
    path = write(tmp_path / "a.edf", ecg[:2], ["ECG", "V5"], kind=kind)
    expected = read_recording(path).signal_mv
    content = path.read_bytes()
    # The recorder paused for 3.5 s after four of twelve seconds, and for a minute after nine.
    pauses = {0: 0.0, 4: 3.5, 9: 63.5}
    onsets, pause = [], 0.0
    for record in range(12):
        pause = pauses.get(record, pause)
        onsets.append(record + pause)
        old = f"+{record}\x14\x14".encode()
        new = f"+{100 + onsets[-1]:g}\x14\x14".encode()
        at = [m.start() for m in re.finditer(re.escape(old), content) if m.start() > 1024]
        assert len(at) == 1
        content = content[: at[0]] + new + content[at[0] + len(new) :]
    path.write_bytes(content.replace(b"DF+C", b"DF+D", 1))
    if kind == "EDF+":
        with pytest.raises(OSError, match="discontinuous"):
            pyedflib.EdfReader(str(path))
    opened = open_recording(path)
    assert opened.header.samples == round((12 + 63.5) * 200)
    actual = opened.read().signal_mv
    whole = np.full((2, opened.header.samples), np.nan)
    for record, onset in enumerate(onsets):
        at = round(onset * 200)
        whole[:, at : at + 200] = expected[:, record * 200 : (record + 1) * 200]
    np.testing.assert_array_equal(actual, whole)
    for start, stop in ((0, 5), (790, 1600), (900, 901), (1499, 1501), (2000, 15_100)):
        part = opened.read(start=start, stop=stop).signal_mv
        np.testing.assert_array_equal(part, whole[:, start:stop])


def test_onsets_that_make_no_sense(tmp_path, ecg):
    path = write(tmp_path / "a.edf", ecg[:1], ["ECG"])
    good = path.read_bytes().replace(b"DF+C", b"DF+D", 1)
    for old, new, fault in (
        (b"+7\x14\x14", b"+2\x14\x14", "data record 7 begins at 2 s, before"),
        (b"+7\x14\x14", b"??\x14\x14", "data record 7 does not begin with its onset"),
        (b"+11\x14\x14", b"+9e9999\x14", "data record 11 begins at 9 s, before"),
        (b"+11\x14\x14", b"+99999999\x14\x14", "more than a year apart"),
        (b"EDF Annotations", b"EDF annotations", "without the annotations"),
    ):
        assert good.count(old) == 1
        at = good.index(old)
        path.write_bytes(good[:at] + new + good[at + len(new) :])
        with pytest.raises(RecordingError, match=f"a.edf: .*{fault}"):
            open_recording(path)


def test_leads_of_different_rates(tmp_path):
    seconds = 30
    rates = np.array([256, 128, 200, 64, 100])
    tones = [(7.0, 0.4), (3.0, 0.9), (11.0, 0.7), (2.0, 0.5), (5.0, 0.1)]
    clean = [
        2.0 + np.sin(2 * np.pi * f * np.arange(seconds * fs) / fs + phase)
        for fs, (f, phase) in zip(rates, tones, strict=True)
    ]
    labels = ["ECG I", "ECG II", "V1", "V2", "EEG Cz"]
    path = write(tmp_path / "a.bdf", clean, labels, "mV", fs=rates, kind="BDF+")
    opened = open_recording(path)
    assert opened.header.leads == ("I", "II", "V1", "V2")
    assert (opened.header.fs, opened.header.samples) == (256.0, 256 * seconds)
    whole = opened.read().signal_mv
    np.testing.assert_allclose(whole[0], oracle(path, 0, "mV"), rtol=0, atol=1e-9)
    for lead in (1, 2, 3):
        by_scipy = preprocessing.resample(oracle(path, lead, "mV"), rates[lead], 256.0)
        np.testing.assert_allclose(whole[lead], by_scipy, rtol=0, atol=1e-9)
        (f, phase), middle = tones[lead], slice(256, -256)
        at_256 = 2.0 + np.sin(2 * np.pi * f * np.arange(seconds * 256) / 256 + phase)
        np.testing.assert_allclose(whole[lead, middle], at_256[middle], rtol=0, atol=5e-3)
    for start, stop in np.sort(np.random.default_rng(1).integers(0, 256 * seconds, (30, 2))):
        part = opened.read(leads=["V1", "I", "II"], start=start, stop=stop + 1).signal_mv
        np.testing.assert_allclose(part, whole[[2, 0, 1], start : stop + 1], rtol=0, atol=1e-9)


def test_two_ecg_channels_of_one_name(tmp_path, ecg):
    path = write(tmp_path / "a.edf", ecg, ["ECG", "ECG", "ECG II", "Lead 2"])
    opened = open_recording(path)
    assert opened.header.leads == ("ECG", "ECG (2)", "II", "II (2)")
    for i, name in enumerate(("ecg", "ECG (2)", "ii", "II (2)")):
        actual = opened.read(leads=[name]).signal_mv[0]
        np.testing.assert_allclose(actual, oracle(path, i, "uV"), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("labels", "leads"),
    [
        (["ECG1", "ECG2", "ECG3"], ("ECG1", "ECG2", "ECG3")),
        (["EKG", "C3-A2", "C4", "LOC", "Chin"], ("EKG",)),
        (["ECG1-ECG2", "X1", "EMG"], ("ECG1-ECG2",)),
        (["ch 1", "ch 2"], ("ch 1", "ch 2")),
        (["", "EEG"], ("signal 0",)),
        (["Direct_1", "Abdomen_1"], ("Direct_1", "Abdomen_1")),
        (["MLII", "EOG", "mod. V5"], ("MLII", "mod. V5")),
        (["1", "2", "PLETH"], ("1", "2")),
        (["I", "C1", "C2", "C3", "C4", "C5", "C6"], ("I", "V1", "V2", "V3", "V4", "V5", "V6")),
    ],
)
def test_labels(tmp_path, ecg, labels, leads):
    signals_mv = np.resize(ecg, (len(labels), 2400))
    opened = open_recording(write(tmp_path / "a.edf", signals_mv, labels))
    assert opened.header.leads == leads
    assert len(opened.left_out) == len(labels) - len(leads)


@pytest.mark.parametrize(
    ("field", "mv_per_unit"),
    [(b"uV", 1e-3), (b"UV", 1e-3), (b"mV", 1.0), (b"V", 1e3), (b"nV", 1e-6)]
    + [("µV".encode("latin-1"), 1e-3), ("µV".encode(), 1e-3), ("μV".encode(), 1e-3)]
    + [(b"mv\0\0", 1.0), (b"microVolt"[:8], None), (b"\xb5", None), (b"mmHg", None)],
)
def test_units(tmp_path, ecg, field, mv_per_unit):
    path = write(tmp_path / "a.edf", ecg[:2], ["ECG", "V1"])
    expected = oracle(path, 0, "uV") * 1e3
    (channel, other) = edf_file.read_edf_header(str(path)).channels
    assert path.read_bytes()[channel.unit_at :][:16] == b"uV      uV      "
    replace_bytes(path, channel.unit_at, field.ljust(8))
    opened = open_recording(path)
    if mv_per_unit is None:
        assert opened.header.leads == ("V1",)
        assert re.fullmatch("ECG: unit '.*', expected mV, uV, µV, nV or V", opened.left_out[0])
        return
    actual = opened.read(leads=["ECG"]).signal_mv[0]
    np.testing.assert_allclose(actual, expected * mv_per_unit, rtol=1e-9, atol=0)
    assert other.unit == "uV"


def test_a_channel_without_unit_says_how_to_add_it(tmp_path, ecg):
    path = write(tmp_path / "a.edf", ecg[:2], ["ECG", "EEG C3"], ["", "uV"])
    with pytest.raises(RecordingError, match="ECG: no unit for values from -5000 to 5000") as error:
        open_recording(path)
    command = re.search("printf .* conv=notrunc", str(error.value)).group()
    subprocess.run(command, shell=True, check=True, stderr=subprocess.DEVNULL)
    recording = read_recording(path)
    assert recording.leads == ("ECG",)
    np.testing.assert_allclose(recording.signal_mv[0], ecg[0], rtol=0, atol=10 / 2**15)
    # beside an ECG with a unit it is left out
    path = write(tmp_path / "b.edf", ecg[:2], ["ECG I", "ECG II"], ["", "uV"])
    assert read_recording(path).leads == ("II",)


def test_damaged_files(tmp_path, ecg):
    (tmp_path / "a.edf").write_bytes(b"0       not an EDF")
    with pytest.raises(RecordingError, match="a.edf: not a readable EDF"):
        read_recording(tmp_path / "a.edf")
    (tmp_path / "a.edf").write_bytes(b"")
    with pytest.raises(RecordingError, match="a.edf: not a readable EDF"):
        read_recording(tmp_path / "a.edf")
    with pytest.raises(RecordingError, match="absent.edf: cannot be read .No such file"):
        read_recording(tmp_path / "absent.edf")
    path = write(tmp_path / "b.edf", [np.zeros(400)], ["SpO2"], ["%"])
    with pytest.raises(RecordingError, match="no channel is an ECG: SpO2: unit '%'"):
        read_recording(path)

    path = write(tmp_path / "c.edf", ecg[:1], ["ECG"])
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(RecordingError, match="c.edf: truncated: 12 data records declared, 11 w"):
        read_recording(path)
    for cut in (100, 256, 400, 767):
        path.write_bytes(whole[:cut])
        with pytest.raises(RecordingError, match="c.edf: not a readable EDF|c.edf: truncated"):
            read_recording(path)
    for at, content, fault in (
        (236, b"0       ", "0 data records of 1 s"),
        (244, b"0       ", "12 data records of 0 s"),
        (244, b"nan     ", "duration of a data record is 'nan', expected a number"),
        (252, b"x   ", "number of channels is 'x'"),
        (252, b"-2  ", "a header of 768 bytes for -2 channels"),
        (184, b"0       ", "a header of 0 bytes for 2 channels, expected 768"),
        (256 + 2 * 216, b"-200    ", "'ECG' has -200 samples"),
        (256 + 2 * 216, b"0       ", "ECG: no samples"),
        (256 + 2 * 104, b"5000    ", "ECG: not calibrated: 5000 to 5000"),
        (256 + 2 * 120, b"32767   ", "ECG: not calibrated: -5000 to 5000 for digital 32767 to"),
        (256 + 2 * 120, b"one     ", "digital minimum of 'ECG' is 'one'"),
    ):
        path.write_bytes(whole)
        replace_bytes(path, at, content)
        with pytest.raises(RecordingError, match=f"c.edf: .*{fault}"):
            read_recording(path)


def test_a_recording_that_was_not_closed(tmp_path, ecg):
    path = write(tmp_path / "a.edf", ecg[:1], ["ECG"])
    expected = read_recording(path).signal_mv
    path.write_bytes(path.read_bytes()[:-300])
    replace_bytes(path, 236, b"-1      ")
    np.testing.assert_array_equal(read_recording(path).signal_mv, expected[:, : 11 * 200])


def test_a_file_that_shrinks_while_it_is_open(tmp_path, ecg):
    path = write(tmp_path / "a.edf", ecg[:1], ["ECG"])
    opened = open_recording(path)
    path.write_bytes(path.read_bytes()[:-600])
    opened.read(stop=400)
    with pytest.raises(RecordingError, match="a.edf: ends in data record 1[01]; copy it again"):
        opened.read()
