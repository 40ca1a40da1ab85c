import csv
import os
import pathlib
import resource
import time
import warnings

import numpy as np
import pytest

from clef_jax.data.recordings import open_recording, read_recording
from clef_jax.data.recordings.demographics import parse_age, parse_sex
from clef_jax.data.recordings.recording import RecordingError, RecordingUnavailable
from clef_jax.data.recordings.wfdb_header import read_header
from clef_jax.data.signals.leads import canonical_lead
from tests.searching import paths_in
from tests.wfdb_records import edit_header, write_record

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import wfdb

# wfdb writes headers through a pandas call that pandas 3 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")


DATABASES = {
    "ptb-xl/records500": (333, 500, 12),
    "ptb-xl/records100": (333, 100, 12),
    "ludb/data": (135, 500, 12),
    "challenge-2021": (37, 500, 12),
    "chapman-shaoxing-ningbo": (3, 500, 12),
    "mitdb": (8, 360, 2),
    "cpsc2021": (12, 200, 2),
    "nstdb": (3, 360, 2),
    "ptbdb": (1, 1000, 15),
}


@pytest.mark.parametrize("database", DATABASES)
def test_real_databases_read_as_by_wfdb(real_data, database):
    count, fs, n_leads = DATABASES[database]
    paths = paths_in(real_data / database)
    assert len(paths) == count
    for path in paths[:: max(1, count // 6)]:
        oracle = wfdb.rdrecord(path, sampto=1000)
        found = read_recording(path, stop=oracle.sig_len)
        assert found.fs == fs and found.signal_mv.shape == (n_leads, oracle.sig_len)
        assert found.leads == tuple(canonical_lead(name) for name in oracle.sig_name)
        np.testing.assert_array_equal(found.signal_mv, oracle.p_signal.T)


def test_age_and_sex_of_real_headers(real_data):
    wanted = ("ludb", "mitdb", "challenge-2021", "chapman-shaoxing-ningbo", "ptbdb")
    with open(real_data / "MANIFEST.csv", newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["dataset"] in wanted]
    assert len(rows) == 135 + 8 + 37 + 3 + 1
    for row in rows:
        header = read_header(real_data / row["dataset"] / row["record"])
        assert not row["age"] or header.age == float(row["age"]), row
        assert header.sex == {"M": "male", "F": "female"}[row["sex"]], row
    assert read_header(real_data / "cpsc2021/data_84_1").sex is None


@pytest.mark.parametrize(
    ("comments", "patient", "age", "sex"),
    [
        (["# Age: 56", "#Sex: Male"], None, 56, "male"),
        (["#<age>: 51", "#<sex>: F", "#<diagnoses>:"], None, 51, "female"),
        (["# 69 M 1085 1629 x1", "# Aldomet, Inderal"], None, 69, "male"),
        (["# -1 ? 1629 x1"], None, None, None),
        (["# Age: NaN", "# Sex: Unknown"], None, None, None),
        (["# Age: 300", "# gender: f"], None, None, "female"),
        (["# <subject_id>: 10000032"], "10000032", None, None),
        (["# Patient ID: p7", "# Reason: age unknown"], "p7", None, None),
    ],
)
def test_comments(tmp_path, comments, patient, age, sex):
    write_record(tmp_path)
    with open(tmp_path / "r.hea", "a", encoding="utf-8") as stream:
        stream.write("\n".join(comments) + "\n")
    header = read_header(tmp_path / "r")
    assert (header.patient, header.age, header.sex) == (patient, age, sex)
    assert len(header.comments) == len(comments)


@pytest.mark.parametrize(
    ("old", "new"),
    [("1000.0(0)/mV", "9" * 20_000 + "x"), ("r 12", "# a" + " " * 20_000 + "b\nr 12")],
)
def test_long_fields_take_no_long_time(tmp_path, old, new):
    write_record(tmp_path)
    edit_header(tmp_path, old, new)
    begin = time.process_time()
    try:
        read_header(tmp_path / "r")
    except RecordingError as error:
        assert "signal line" in str(error)
    assert time.process_time() - begin < 1


def test_ages_and_sexes():
    assert [parse_age(s) for s in ("56", "56.5 years", "0", "-3", "121", "", "x")] == [
        56, 56.5, 0, None, None, None, None,
    ]  # fmt: skip
    assert [parse_sex(s) for s in ("M", " female\n", "F.", "1", "?")] == [
        "male", "female", "female", None, None,
    ]  # fmt: skip


@pytest.mark.parametrize("suffix", ["", ".hea", ".dat", ".mat"])
def test_path_with_or_without_suffix(tmp_path, suffix):
    write_record(tmp_path, "rec.v2")
    assert read_header(f"{tmp_path}/rec.v2{suffix}").path == f"{tmp_path}/rec.v2"


@pytest.mark.parametrize("fmt", ["16", "80", "212", "24", "32"])
@pytest.mark.parametrize("fs", [250, 999.56])
def test_every_storage_format(tmp_path, fmt, fs):
    rng = np.random.default_rng(1)
    x = rng.normal(0, 0.02 if fmt == "80" else 0.4, (700, 3))
    x[5:9, 1] = np.nan
    gain = [1000.0, 500.0, 1000.0]
    names = ["avf", "Lead I", "V1"]
    wfdb.wrsamp(
        "r", fs, ["mV"] * 3, names, p_signal=x, fmt=[fmt] * 3, adc_gain=gain, baseline=[0, 3, -7],
        comments=["Age: 44", "Sex: F"], write_dir=str(tmp_path),
    )  # fmt: skip
    found = read_recording(tmp_path / "r")
    assert found.leads == ("aVF", "I", "V1") and found.fs == fs and found.age == 44
    missing = np.isnan(x.T)
    np.testing.assert_array_equal(np.isnan(found.signal_mv), missing)
    error = np.abs(found.signal_mv - x.T)[~missing]
    assert error.max() <= 0.5 / min(gain) + 1e-9
    part = read_recording(tmp_path / "r", start=100, stop=233)
    np.testing.assert_array_equal(part.signal_mv, found.signal_mv[:, 100:233])


def test_leads_are_chosen_by_name(tmp_path):
    order = ["I", "II", "III", "AVR", "AVF", "AVL", "v1", "V2", "Lead V3", "V4", "V5", "V6"]
    x = write_record(tmp_path, leads=order)
    found = read_recording(tmp_path / "r", leads=["aVL", "ecg lead v3", "avf"])
    assert found.leads == ("aVL", "V3", "aVF")
    np.testing.assert_allclose(found.signal_mv, x[[5, 8, 4]] / 1000)
    with pytest.raises(RecordingError, match=r"/r: lead V9 not found; the recording has I, II"):
        read_recording(tmp_path / "r", leads=["V9"])


def test_defaults_of_a_bare_header(tmp_path):
    x = np.arange(-100, 100, dtype="<i2").reshape(2, 100)
    x.T.astype("<i2").tofile(tmp_path / "r.dat")
    (tmp_path / "r.hea").write_text("r 2\nr.dat 16\nr.dat 16 0 12 5\n")
    found = read_recording(tmp_path / "r")
    assert found.fs == 250 and found.signal_mv.shape == (2, 100)
    np.testing.assert_allclose(found.signal_mv[0], x[0] / 200)
    np.testing.assert_allclose(found.signal_mv[1], (x[1] - 5) / 200)


@pytest.mark.parametrize("fmt", ["16", "212"])
def test_truncated_signal(tmp_path, fmt):
    wfdb.wrsamp(
        "r", 500, ["mV"], ["I"], p_signal=np.sin(np.arange(5000.0))[:, None], fmt=[fmt],
        write_dir=str(tmp_path),
    )  # fmt: skip
    dat = tmp_path / "r.dat"
    dat.write_bytes(dat.read_bytes()[:-100])
    with pytest.raises(RecordingError, match=r"r\.(dat|hea).*(truncated|again)"):
        read_recording(tmp_path / "r")
    (tmp_path / "r.dat").unlink()
    with pytest.raises(RecordingError, match=r"r.*r\.dat"):
        read_recording(tmp_path / "r")


@pytest.mark.parametrize("fmt", ["16", "212", "16x2"])
def test_a_header_that_declares_terabytes_takes_no_memory(tmp_path, fmt):
    write_record(tmp_path)
    edit_header(tmp_path, "r 12 500 5000", "r 12 1e9 20000000000")
    header = tmp_path / "r.hea"
    header.write_text(header.read_text().replace("r.dat 16 ", f"r.dat {fmt} "))
    with pytest.raises(RecordingError, match=r"r\.dat: truncated: room for .* 20000000000; copy"):
        read_recording(tmp_path / "r")


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="reads a file that gives EIO")
def test_a_fault_that_may_pass_is_told_from_one_that_lies_in_the_file(tmp_path):
    write_record(tmp_path)
    (tmp_path / "r.hea").unlink()
    (tmp_path / "r.hea").symlink_to("/proc/self/mem")
    with pytest.raises(RecordingUnavailable, match=r"r\.hea: cannot be read now \(Input/output"):
        read_header(tmp_path / "r")
    (tmp_path / "r.hea").unlink()
    (tmp_path / "r.hea").symlink_to("r.hea")
    (tmp_path / "folder.hea").mkdir()
    for name, reason in (("r", "symbolic links"), ("folder", "Is a directory"), ("x", "No such")):
        with pytest.raises(RecordingError, match=f"{name}.hea: cannot be read .*{reason}") as error:
            read_header(tmp_path / name)
        assert not isinstance(error.value, RecordingUnavailable)


def test_too_many_open_files_is_a_fault_that_may_pass(tmp_path):
    x = write_record(tmp_path)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    lowest_free = os.open(tmp_path, os.O_RDONLY)
    os.close(lowest_free)
    opened = open_recording(tmp_path / "r")
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        with pytest.raises(RecordingUnavailable, match=r"'r\.dat' cannot be read now \(Too many"):
            opened.read()
        with pytest.raises(OSError, match="Too many open files"):
            paths_in(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    np.testing.assert_allclose(opened.read().signal_mv, x / 1000)
    assert paths_in(tmp_path) == [str(tmp_path / "r")]


def test_truncated_mat(tmp_path, real_data):
    source = real_data / "challenge-2021/georgia/E07500"
    (tmp_path / "E07500.hea").write_bytes(source.with_suffix(".hea").read_bytes())
    (tmp_path / "E07500.mat").write_bytes(source.with_suffix(".mat").read_bytes()[:50_024])
    expected = (
        r"E07500\.mat: truncated: room for 2083 samples per lead, but E07500\.hea declares 5000"
    )
    with pytest.raises(RecordingError, match=expected):
        read_recording(tmp_path / "E07500")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("r 12 500 5000", "r twelve 500 5000", "record line 'r twelve 500 5000'; expected 'name"),
        ("r 12 500 5000", "r/3 12 500 5000", "multi-segment record"),
        ("r 12 500 5000", "r 12 -5 5000", "declares 12 channels at -5.0 Hz"),
        ("r 12 500 5000", "r 12 nan 5000", "at nan Hz"),
        ("r 12 500 5000", "r 13 500 5000", "12 signal lines, but the record line declares 13"),
        ("1000.0(0)/mV", "much", "signal line"),
        ("16 0 0 0 0 V6", "16 zero 0 0 0 V6", "ADC zero 'zero'"),
        ("r.dat", "../r.dat", "outside the record's folder; refused"),
        ("r.dat", "/etc/r.dat", "outside the record's folder; refused"),
    ],
)
def test_damaged_headers(tmp_path, old, new, message):
    write_record(tmp_path)
    edit_header(tmp_path, old, new)
    with pytest.raises(RecordingError) as error:
        read_recording(tmp_path / "r")
    assert message in str(error.value) and "r.hea" in str(error.value)


@pytest.mark.parametrize("content", [b"", b"# only a comment\n", bytes(range(256)), b"\x00" * 50])
def test_garbage_headers(tmp_path, content):
    (tmp_path / "r.hea").write_bytes(content)
    with pytest.raises(RecordingError, match=r"r\.hea"):
        read_header(tmp_path / "r")


def test_missing_header(tmp_path):
    with pytest.raises(RecordingError, match=r"gone\.hea: cannot be read \(No such file"):
        read_recording(tmp_path / "gone")


def test_empty_range(tmp_path):
    write_record(tmp_path)
    with pytest.raises(RecordingError, match="samples 5000 to 5000 asked for"):
        read_recording(tmp_path / "r", start=5000)


def test_records_in_folders(tmp_path):
    for name in ("b/2", "b/10", "a", "c/d/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        pathlib.Path(f"{tmp_path / name}.hea").touch()
    (tmp_path / "b/notes.txt").touch()
    assert paths_in(tmp_path) == sorted(f"{tmp_path}/{n}" for n in ("a", "b/10", "b/2", "c/d/x"))
