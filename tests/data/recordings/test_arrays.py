"""Tables and arrays as strangers write them: rates, time columns, titles and units."""

import datetime

import numpy as np
import pandas as pd
import pydicom
import pyedflib.highlevel
import pytest
import wfdb
from pydicom.data import get_testdata_file

from clef_jax.data.recordings import open_recording, read_recording
from clef_jax.data.recordings.columns import parse_title
from clef_jax.data.recordings.recording import Hints, RecordingError
from clef_jax.data.windows.cut import WindowSettings
from clef_jax.data.windows.pool import ReadTask, Request, run_task
from clef_jax.data.windows.sources import Failure, Source

FS = 250


def ecg(seconds=12.0, fs=FS, leads=1):
    """Beats of 1 mV and smaller ones, over a little muscle noise and drift."""
    t = np.arange(round(seconds * fs)) / fs
    beats = np.exp(-0.5 * (((t % 0.83) - 0.4) / 0.012) ** 2) + 0.2 * np.sin(0.3 * t)
    noise = np.random.default_rng(0).normal(0, 0.01, (leads, t.size))
    return beats * np.linspace(1, 0.6, leads)[:, None] + noise


def write_csv(path, x, titles, times=None, separator=","):
    columns = ([] if times is None else [times]) + list(x)
    np.savetxt(
        path, np.column_stack(columns), delimiter=separator, header=separator.join(titles),
        comments="", fmt="%.9g",
    )  # fmt: skip
    return str(path)


def embedded(path, **hints):
    """What the reading processes hand over of one file: its block of windows or its failure."""
    (result,) = run_task(
        ReadTask((Source(str(path), "r"),)), Request(WindowSettings(), Hints(**hints))
    )
    return result


def failure(path, **request):
    result = embedded(path, **request)
    assert isinstance(result, Failure), result
    assert str(path) in result.error
    return result.error


# --- rates ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("fs", [20, 80, 0.5, 2, 1e6, float("nan"), float("inf"), 0, -250])
def test_a_rate_that_nobody_can_mean_is_refused_by_file_and_number(tmp_path, fs):
    path = write_csv(tmp_path / "a.csv", ecg(), ["I"])
    error = failure(path, fs=fs)
    assert f"{fs:g} Hz" in error or f"{fs:.0f} Hz" in error or f"at {fs} Hz" in error
    assert ("more than 80 Hz" in error and "--fs" in error) or "positive rate" in error


def test_low_rates_in_headers_are_refused_too(tmp_path):
    x = ecg(60, fs=50)
    wfdb.wrsamp(
        "slow", fs=50, units=["mV"], sig_name=["I"], p_signal=x.T, fmt=["16"],
        write_dir=str(tmp_path),
    )  # fmt: skip
    with pyedflib.EdfWriter(str(tmp_path / "slow.edf"), 1) as edf:
        edf.setSignalHeaders([pyedflib.highlevel.make_signal_header("ECG I", "mV", 50, -5, 5)])
        edf.setBirthdate(datetime.date(1950, 6, 1))
        edf.writeSamples(list(x))
    dataset = pydicom.dcmread(get_testdata_file("waveform_ecg.dcm", download=False))
    for group in dataset.WaveformSequence:
        group.SamplingFrequency = "50"
    dataset.save_as(tmp_path / "slow.dcm")
    for name in ("slow.hea", "slow.edf", "slow.dcm"):
        error = failure(tmp_path / name)
        assert "too low a rate: 50 Hz cannot hold the band to 40 Hz; expected more than 80" in error


@pytest.mark.parametrize(
    ("title", "per_second"),
    [("time", 1), ("Time (s)", 1), ("time_ms", 1e3), ("t", 1e3), ("seconds", 1),
     ("Timestamp [us]", 1e6), ("elapsed time", 1)],
)  # fmt: skip
def test_a_time_column_must_agree_with_the_rate(tmp_path, title, per_second):
    x = ecg(leads=2)
    times = (np.arange(x.shape[1]) / FS + 1000) * per_second
    path = write_csv(tmp_path / "a.csv", x, [title, "II", "V1"], times)
    recording = read_recording(path, fs=FS)
    assert recording.leads == ("II", "V1")
    np.testing.assert_allclose(recording.signal_mv, x, atol=1e-8)
    for wrong in (500, 256, 125):
        with pytest.raises(RecordingError, match="a.csv: its column.*250 Hz if in.*rate given is"):
            read_recording(path, fs=wrong)


def test_a_column_that_counts_samples_says_nothing_about_the_rate(tmp_path):
    x = ecg()
    for title in ("sample", "sample #", "index", "", "Unnamed: 0", "time", "'sample #'"):
        path = write_csv(tmp_path / "a.csv", x, [title, "II"], np.arange(x.shape[1]))
        assert read_recording(path, fs=FS).leads == ("II",)
    pd.DataFrame({"II": x[0]}).to_csv(tmp_path / "pandas.csv")
    assert read_recording(tmp_path / "pandas.csv", fs=FS).leads == ("II",)


def test_times_printed_to_a_few_digits_agree_and_gaps_do_not(tmp_path):
    x = ecg(60, fs=360)
    times = np.round(np.arange(x.shape[1]) / 360, 3)
    path = write_csv(tmp_path / "a.csv", x, ["time", "I"], times)
    assert read_recording(path, fs=360).signal_mv.shape == x.shape
    for digits in (1, 0):
        coarse = np.round(times + 1.7e9, digits)
        path = tmp_path / "coarse.csv"
        pd.DataFrame({"timestamp": coarse, "I": x[0]}).to_csv(path, index=False)
        read_recording(path, fs=360)
        with pytest.raises(RecordingError, match="its column 'timestamp'.*rate given is 250 Hz"):
            read_recording(path, fs=250)
    for gap_s, message in (
        (0.1, None),
        (0.2, "is not even: sample 500. is 0.15"),
        (2, "rate given"),
    ):
        late = times + gap_s * (np.arange(times.size) >= 5000)
        path = write_csv(tmp_path / "gap.csv", x, ["time", "I"], late)
        if message is None:
            read_recording(path, fs=360)
        else:
            with pytest.raises(RecordingError, match=f"gap.csv: its column 'time'.*{message}"):
                read_recording(path, fs=360)


# --- units ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("units", "per_mv"), [("mV", 1), ("uV", 1e3), ("V", 1e-3)])
@pytest.mark.parametrize("suffix", ["csv", "tsv", "npy"])
def test_units_are_taken_from_the_caller(tmp_path, units, per_mv, suffix):
    x, path = ecg(leads=2), tmp_path / f"a.{suffix}"
    if suffix == "npy":
        np.save(path, x * per_mv)
    else:
        write_csv(path, x * per_mv, ["I", "II"], separator="," if suffix == "csv" else "\t")
    names = ["I", "II"]
    recording = read_recording(path, fs=FS, units=units, lead_names=names)
    np.testing.assert_allclose(recording.signal_mv, x, rtol=1e-6, atol=1e-8)
    block = embedded(path, fs=FS, units=units, lead_names=tuple(names))
    assert block.windows.quality == ["ok"]
    if units == "mV":
        assert embedded(path, fs=FS, lead_names=tuple(names)).windows.quality == ["ok"]
        return
    error = failure(path, fs=FS, lead_names=tuple(names))
    assert f"probably {'µV' if units == 'uV' else 'V'}" in error
    assert "expected mV" in error and f"--units {'uV' if units == 'uV' else 'uV, V'}" in error


@pytest.mark.parametrize("gain", [5, 200, 1000])
@pytest.mark.parametrize("baseline", [0, 1024])
def test_counts_of_a_recorder_are_not_taken_for_millivolts(tmp_path, gain, baseline):
    steps = np.rint(ecg() * gain + baseline).astype(np.int16)
    np.save(tmp_path / "a.npy", steps)
    np.save(tmp_path / "f.npy", steps.astype(np.float32))
    write_csv(tmp_path / "a.csv", steps, ["ECG"])
    for name in ("a.npy", "f.npy", "a.csv"):
        error = failure(tmp_path / name, fs=FS)
        assert "lead ECG: the samples are whole numbers" in error
        assert "counts per mV" in error and "--units uV" in error
        assert embedded(tmp_path / name, fs=FS, units="uV").windows.x.shape == (1, 5000, 1)


def test_amplitudes_that_are_said_to_be_mv_are_believed(tmp_path):
    np.save(tmp_path / "a.npy", 1e-3 * ecg())
    assert "probably V" in failure(tmp_path / "a.npy", fs=FS)
    assert embedded(tmp_path / "a.npy", fs=FS, units="mV").windows.quality == ["flat"]


def test_odd_but_real_amplitudes_are_mv(tmp_path, real_data):
    for k, x in enumerate(
        (
            np.zeros((1, 12 * FS)),
            np.full((1, 12 * FS), np.nan),
            ecg() + 300,
            0.08 * ecg(),
            ecg() + np.linspace(0, 100, 12 * FS),
            np.where(np.arange(12 * FS) % 1000 < 20, 500, ecg()),
        )
    ):
        np.save(tmp_path / f"{k}.npy", x)
        assert not isinstance(embedded(tmp_path / f"{k}.npy", fs=FS), Failure), k
    for path in ("challenge-2021/ningbo/JS20004", "ptb-xl/records500/00000/00001_hr"):
        recording = read_recording(real_data / path)
        np.save(tmp_path / "real.npy", recording.signal_mv)
        read_recording(tmp_path / "real.npy", fs=500)


def test_units_in_titles(tmp_path):
    x = ecg(leads=3)
    path = write_csv(
        tmp_path / "a.csv", x * [[1e3], [1.0], [1e-3]], ["lead I (uV)", "II [mV]", "aVF/V"]
    )
    recording = read_recording(path, fs=FS, leads=["I", "II"])
    np.testing.assert_allclose(recording.signal_mv, x[:2], rtol=1e-6)
    path = write_csv(tmp_path / "b.csv", x[:1] * 1e3, ["V1_uV"])
    recording = read_recording(path, fs=FS, units="uV")
    assert recording.leads == ("V1",)
    np.testing.assert_allclose(recording.signal_mv, x[:1], rtol=1e-6)
    with pytest.raises(RecordingError, match="b.csv: its columns are in uV .*but mV was given"):
        read_recording(path, fs=FS, units="mV")
    with pytest.raises(ValueError, match="units 'kV'; expected mV, uV, V"):
        read_recording(write_csv(tmp_path / "c.csv", x[:1], ["I"]), fs=FS, units="kV")


def test_physionets_tables(tmp_path):
    """As `rdsamp -c -v -pe` writes them: titles in quotes, and units in a line of their own."""
    x = ecg(leads=2)
    rows = [f"'0:{i / FS:06.3f}',{a:.3f},{1e3 * b:.3f}" for i, (a, b) in enumerate(x.T)]
    text = "\n".join(["'Elapsed time','MLII','V5'", "'hh:mm:ss.mmm','mV','uV'", *rows])
    (tmp_path / "a.csv").write_text(text + "\n")
    recording = read_recording(tmp_path / "a.csv", fs=FS)
    assert recording.leads == ("MLII", "V5")
    np.testing.assert_allclose(recording.signal_mv, x, atol=1e-3)


@pytest.mark.parametrize("unit", ["mmHg", "NU", "%", "kPa"])
@pytest.mark.parametrize("given", [None, "mV"])
def test_a_column_that_the_line_of_units_puts_in_no_volts_is_no_ecg(tmp_path, unit, given):
    x = ecg(leads=2)
    rows = [f"{a:.4f},{70 + b:.4f}" for a, b in x.T]
    (tmp_path / "a.csv").write_text("\n".join(["'II','PAWP'", f"'mV','{unit}'", *rows]) + "\n")
    recording = open_recording(tmp_path / "a.csv", fs=FS, units=given)
    assert recording.header.leads == ("II",)
    assert recording.left_out == (f"PAWP: unit '{unit}', expected mV, uV, µV, nV or V",)
    np.testing.assert_allclose(recording.read().signal_mv, x[:1], atol=1e-4)


def test_the_second_of_two_columns_of_one_title_is_named_as_in_every_format(tmp_path):
    x = ecg(leads=3)
    path = write_csv(tmp_path / "a.csv", x, ["II", "II", '"V1, left"'])
    recording = read_recording(path, fs=FS)
    assert recording.leads == ("II", "II (2)", "V1, left")
    np.testing.assert_allclose(recording.signal_mv, x, rtol=1e-6)


@pytest.mark.parametrize("titles", [["I"], ["I", "II", "III"]])
def test_titles_that_are_fewer_or_more_than_the_columns_are_refused(tmp_path, titles):
    path = write_csv(tmp_path / "a.csv", ecg(leads=2), titles)
    error = failure(path, fs=FS)
    assert f"{len(titles)} titles for 2 columns" in error and "expected one column" in error


NO_TABLES = {
    "empty": "",
    "blank": "\n",
    "titles": "II\n",
    "one cell": "II",
    "one long line": "x" * 200_000,
    "open quote": '"II\nV1"\n1\n2\n',
    "binary": "\0\1",
}


@pytest.mark.parametrize("content", NO_TABLES.values(), ids=NO_TABLES)
def test_what_is_no_table_is_refused_by_file(tmp_path, content):
    (tmp_path / "a.csv").write_text(content)
    error = failure(tmp_path / "a.csv", fs=FS)
    assert "not a table of samples" in error and "expected one column" in error


@pytest.mark.parametrize(("suffix", "expected"), [("csv", "commas"), ("tsv", "tabs")])
def test_another_separator_is_refused_by_what_is_expected(tmp_path, suffix, expected):
    path = write_csv(tmp_path / f"a.{suffix}", ecg(leads=2), ["I", "II"], separator=";")
    assert f"with {expected} between them" in failure(path, fs=FS)


@pytest.mark.parametrize("title", ["E", "-", "e"])
def test_a_title_that_looks_a_little_like_a_number_is_a_title(tmp_path, title):
    x = ecg()
    path = write_csv(tmp_path / "a.csv", x, [title])
    recording = read_recording(path, fs=FS)
    assert recording.leads == (title,)
    np.testing.assert_allclose(recording.signal_mv, x, rtol=1e-6)


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("II", ("II", None, "lead")),
        ("V", ("V", None, "lead")),
        ("lead I [mV]", ("lead I", "mV", "lead")),
        ("V1 (µV)", ("V1", "µV", "lead")),
        ("ecg_uv", ("ecg", "uv", "lead")),
        ("mV", ("ECG", "mV", "lead")),
        ("aVL (V)", ("aVL", "V", "lead")),
        ("ABP (mmHg)", ("ABP (mmHg)", None, "lead")),
        ("'MLII'", ("MLII", None, "lead")),
        ("time (ms)", ("time", "ms", "time")),
        ("t_s", ("t", "s", "time")),
        ("timestamp", ("timestamp", None, "time")),
        ("sample #", ("sample #", None, "count")),
        ("", ("", None, "count")),
    ],
)
def test_titles(title, expected):
    column = parse_title(title)
    assert (column.name, column.unit, column.kind) == expected
