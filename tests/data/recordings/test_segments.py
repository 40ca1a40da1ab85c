"""Multi-segment WFDB records, against the wfdb package."""

import os
import sys
import warnings

import numpy as np
import pytest

from clef_jax.data.recordings import open_recording, read_recording
from clef_jax.data.recordings.recording import RecordingError
from clef_jax.data.recordings.wfdb_header import read_header
from clef_jax.data.shards.prepare import Rejection
from clef_jax.data.windows.sources import find_sources
from tests.searching import paths_in
from tests.shard_records import first_window

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import wfdb


def write_segment(folder, name, leads, frames, *, size=2, gain=1000, fs=125, seed=0):
    rng = np.random.default_rng(seed + frames)
    rng.normal(0, 300, (frames, size * len(leads))).astype("<i2").tofile(folder / f"{name}.dat")
    lines = [f"{name} {len(leads)} {fs} {frames}"]
    lines += [f"{name}.dat 16x{size} {gain}({i})/mV 16 0 0 0 0 {x}" for i, x in enumerate(leads)]
    (folder / f"{name}.hea").write_text("\n".join(lines) + "\n")


def write_fixed(folder, segments=(("m_1", 700), ("m_2", 300), ("m_3", 500)), header="m"):
    for i, (name, frames) in enumerate(segments):
        if name != "~":
            write_segment(folder, name, ["I", "II"], frames, gain=1000 + 500 * i)
    total = sum(frames for _, frames in segments)
    lines = [f"{header}/{len(segments)} 2 125 {total}"] + [f"{n} {k}" for n, k in segments]
    (folder / f"{header}.hea").write_text("\n".join([*lines, "# Age: 61", "# Sex: F"]) + "\n")


def write_variable(folder):
    """As MIMIC does: a layout, segments with some of its leads in any order, and gaps."""
    layout = ["m_layout 3 125 0"] + [f"~ 0x2 1/mV 16 0 0 0 0 {x}" for x in ("II", "V", "MCL1")]
    (folder / "m_layout.hea").write_text("\n".join(layout) + "\n#Location: micu\n")
    write_segment(folder, "m_1", ["V", "II"], 400)
    write_segment(folder, "m_2", ["II"], 250, gain=200)
    write_segment(folder, "m_3", ["MCL1", "II", "V"], 650, gain=500)
    lines = ["m/6 3 125 1800", "m_layout 0", "~ 300", "m_1 400", "m_2 250", "~ 200", "m_3 650"]
    (folder / "m.hea").write_text("\n".join(lines) + "\n")


def of_wfdb(folder):
    return np.stack(wfdb.rdrecord(str(folder / "m"), smooth_frames=False).e_p_signal)


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_fixed_layout_reads_as_by_wfdb(tmp_path):
    write_fixed(tmp_path)
    header = read_header(tmp_path / "m")
    assert (header.fs, header.samples, header.leads) == (250, 3000, ("I", "II"))
    assert (header.age, header.sex) == (61, "female")
    whole = read_recording(tmp_path / "m").signal_mv
    np.testing.assert_array_equal(whole, of_wfdb(tmp_path))
    part = read_recording(tmp_path / "m", leads=["II"], start=1333, stop=2001).signal_mv
    np.testing.assert_array_equal(part, whole[1:, 1333:2001])


def test_variable_layout_reads_as_by_wfdb(tmp_path):
    write_variable(tmp_path)
    found = read_recording(tmp_path / "m")
    assert (found.fs, found.leads) == (250, ("II", "V", "MCL1"))
    assert "Location: micu" in found.comments
    np.testing.assert_array_equal(found.signal_mv, of_wfdb(tmp_path))
    present = ~np.isnan(found.signal_mv)
    assert present.sum(axis=1).tolist() == [2 * 1300, 2 * 1050, 2 * 650]
    opened = open_recording(tmp_path / "m")
    for start, stop in ((0, 600), (599, 601), (100, 2001), (3000, 3600)):
        part = opened.read(leads=["v", "II"], start=start, stop=stop).signal_mv
        np.testing.assert_array_equal(part, found.signal_mv[[1, 0], start:stop])


def test_gaps_in_a_fixed_layout(tmp_path):
    """Which wfdb does not read."""
    write_fixed(tmp_path, (("~", 100), ("m_1", 700), ("~", 50), ("m_2", 300)))
    found = read_recording(tmp_path / "m").signal_mv
    parts = [read_recording(tmp_path / name).signal_mv for name in ("m_1", "m_2")]
    np.testing.assert_array_equal(found[:, 200:1600], parts[0])
    np.testing.assert_array_equal(found[:, 1700:], parts[1])
    assert np.isnan(found[:, :200]).all() and np.isnan(found[:, 1600:1700]).all()


def test_lengths_that_headers_leave_out(tmp_path):
    write_fixed(tmp_path)
    expected = read_recording(tmp_path / "m").signal_mv
    edit(tmp_path / "m.hea", " 125 1500", " 125")
    edit(tmp_path / "m_2.hea", " 125 300", " 125")
    np.testing.assert_array_equal(read_recording(tmp_path / "m").signal_mv, expected)


def test_segments_are_not_recordings_beside_the_whole(tmp_path):
    for name in ("variable", "fixed"):
        (tmp_path / name).mkdir()
    write_variable(tmp_path / "variable")
    write_fixed(tmp_path / "fixed")
    write_segment(tmp_path / "fixed", "another", ["I"], 100)
    expected = [f"{tmp_path}/{n}" for n in ("fixed/another", "fixed/m", "variable/m")]
    assert paths_in(tmp_path) == expected
    sources, failures = find_sources([str(tmp_path)])
    assert [s.record for s in sources] == ["fixed/another", "fixed/m", "variable/m"]
    assert failures == []
    # A header that is damaged takes no other record with it.
    edit(tmp_path / "fixed/m.hea", "m_2 300", "m_2 300 300")
    assert len(paths_in(tmp_path / "fixed")) == 5


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("m", "m_2 300", "../m_2 300", r"m\.hea: segment '\.\./m_2' lies outside.*refused"),
        ("m", "m_2 300", "/etc/m_2 300", r"segment '/etc/m_2' lies outside"),
        ("m", "m_2 300", ".. 300", r"segment '\.\.' lies outside"),
        ("m", "m_2 300", "m_2 many", r"m\.hea: segment line 'm_2 many'"),
        ("m", "m_2 300", "m_2 -300", r"m\.hea: segment line 'm_2 -300'"),
        ("m", "m_2 300", "m 300", r"m\.hea: a multi-segment record in the place of a segment"),
        ("m", "m_1 700", "m 700", r"m\.hea: a multi-segment record in the place of a segment"),
        ("m", "m/3", "m/4", r"m\.hea: 3 segment lines, but the record line declares 4"),
        ("m", "m/3 2 ", "m/3 3 ", r"declares 3 leads, but .*m_1\.hea, which names them, 2"),
        ("m", "125 1500", "125 1501", r"m\.hea: declares 1501 samples.* in segments of 1500"),
        ("m", "m_2 300", "m_2 0", r"m\.hea: declares 1500 samples.* in segments of 1200"),
        ("m", "m_2 300", "gone 300", r"gone\.hea: cannot be read .No such file"),
        ("m", "/3 2 125 1500", "/3 2 1e6 1500", r"no more than 20000 Hz"),
        ("m_2", "2 125 300", "2 250 300", r"m_2\.hea: 300 samples at 250 Hz, but .*300 at 125 Hz"),
        ("m_2", "2 125 300", "2 125 299", r"m_2\.hea: 299 samples at 125 Hz"),
        ("m_2", "16x2", "16x1", r"m_2\.hea: 1 samples of I in a frame, but 2 elsewhere"),
        ("m_2", "m_2.dat", "../m_2.dat", r"m_2\.hea: signal file '\.\./m_2\.dat' lies outside"),
        ("m_2", "(0)/mV", "(0)/furlong", r"m_2\.hea: unit 'furlong' of lead 'I'"),
    ],
)
def test_damaged_multi_segment_records(tmp_path, file, old, new, message):
    write_fixed(tmp_path)
    edit(tmp_path / f"{file}.hea", old, new)
    with pytest.raises(RecordingError, match=message):
        read_recording(tmp_path / "m")


def test_a_gap_that_no_file_bears_out(tmp_path):
    write_fixed(tmp_path, (("m_1", 700), ("~", 10**15)))
    with pytest.raises(RecordingError, match=r"m\.hea: declares 1000000000000700 .* than a year"):
        read_header(tmp_path / "m")


def test_records_that_hold_nothing(tmp_path):
    write_variable(tmp_path)
    with pytest.raises(RecordingError, match=r"m_layout\.hea: describes leads, but stores no"):
        read_header(tmp_path / "m_layout")
    (tmp_path / "n.hea").write_text("n/2 1 125 200\n~ 100\n~ 100\n")
    with pytest.raises(RecordingError, match=r"n\.hea: all its segments are gaps"):
        read_header(tmp_path / "n")


def test_a_truncated_segment(tmp_path):
    write_fixed(tmp_path)
    file = tmp_path / "m_2.dat"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(RecordingError, match=r"m_2\.dat: truncated: room for 299 samples"):
        read_recording(tmp_path / "m")
    assert read_recording(tmp_path / "m", stop=1400).signal_mv.shape == (2, 1400)


@pytest.mark.parametrize("linked", ["m_1.dat", "m_1.hea", "m.hea", None])
def test_confined_to_the_records_folder(tmp_path, linked):
    """A list of records may come from elsewhere: no link of a segment leads out of the folder."""
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    leads = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]
    write_segment(tmp_path / "in", "m_1", leads, 2000, size=4)
    (tmp_path / "in/m.hea").write_text("m/1 12 125 2000\nm_1 2000\n")
    if linked is None:
        found = first_window(f"{tmp_path}/in/m", confine_to=f"{tmp_path}/in")
        assert found.leads == tuple(leads)
        files = list(open_recording(tmp_path / "in/m").other_files())
        assert [os.path.basename(f) for f in files] == ["m.hea", "m_1.hea", "m_1.dat"]
        return
    os.rename(tmp_path / "in" / linked, tmp_path / "out" / linked)
    (tmp_path / "in" / linked).symlink_to(tmp_path / "out" / linked)
    with pytest.raises(Rejection, match=f"outside the records folder: .*{linked} is a link"):
        first_window(f"{tmp_path}/in/m", confine_to=f"{tmp_path}/in")


@pytest.mark.parametrize("layout", [write_fixed, write_variable])
def test_garbled_headers_are_read_or_refused(tmp_path, layout):
    """Whatever is in the headers: no other exception, and no file of another folder is opened."""
    layout(tmp_path)
    headers = {path: path.read_bytes() for path in tmp_path.glob("*.hea")}
    pieces = [b"/", b"../", b"~", b"\0", b"-1", b" ", b"\n", b"x0", b"\xff"]
    pieces += [b"9" * 30, b"9" * 5000, b" " * 9000]
    rng = np.random.default_rng(0)
    opened, active = [], True

    def audit(event, arguments):
        if active and event == "open" and isinstance(arguments[0], str):
            opened.append(arguments[0])

    sys.addaudithook(audit)
    refused = 0
    for _ in range(80):
        path = list(headers)[rng.integers(len(headers))]
        content = bytearray(headers[path])
        for _ in range(rng.integers(1, 4)):
            at = rng.integers(len(content))
            content[at : at + rng.integers(3)] = pieces[rng.integers(len(pieces))]
        path.write_bytes(content)
        opened.clear()
        assert paths_in(tmp_path)
        try:
            read_recording(tmp_path / "m", stop=5000)
        except RecordingError:
            refused += 1
        assert {os.path.dirname(os.path.realpath(file)) for file in opened} == {str(tmp_path)}
        path.write_bytes(headers[path])
    active = False
    assert 20 < refused < 80


def test_a_lead_asked_for_twice(tmp_path):
    write_fixed(tmp_path)
    found = read_recording(tmp_path / "m", leads=["II", "lead ii"]).signal_mv
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], read_recording(tmp_path / "m").signal_mv[1])
