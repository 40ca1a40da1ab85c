"""Storage formats, frames of several samples and skews, against the wfdb package."""

import warnings

import numpy as np
import pytest
import soundfile

from clef_jax.data.recordings import open_recording, read_recording
from clef_jax.data.recordings.recording import RecordingError
from clef_jax.data.recordings.wfdb_header import read_header
from clef_jax.data.signals import preprocessing

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import wfdb

pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")

# A block of each format: its size, its samples, and its bytes where all of them are missing.
_BLOCKS = {
    "16": (2, 1, "0080"), "24": (3, 1, "000080"), "32": (4, 1, "00000080"), "61": (2, 1, "8000"),
    "80": (1, 1, "00"), "160": (2, 1, "0000"), "212": (3, 2, "008800"),
    "310": (4, 3, "00040084"), "311": (4, 3, "00020820"),
}  # fmt: skip
_BITS = {"24": 24, "32": 32, "80": 8, "212": 12, "310": 10, "311": 10, "508": 8, "524": 24}
_FLAC = {"508": "PCM_S8", "516": "PCM_16", "524": "PCM_24"}
_MONITOR = {"II": (4, "mV"), "V": (4, "mV"), "Pleth": (2, "NU"), "Resp": (1, "Ohm")}


def write_frames(folder, *, fmt, frames, sizes, leads=None, units=None):
    """Writes r.hea and random samples, some missing; a file for each size where compressed."""
    rng = np.random.default_rng(int(fmt) + frames)
    leads = leads or [f"V{i + 1}" for i in range(len(sizes))]
    gain = 2 ** _BITS.get(fmt, 16) // 8  # so that the samples span 8 mV
    lines = [f"r {len(sizes)} 62.4725 {frames}"]
    for i, (lead, size) in enumerate(zip(leads, sizes, strict=True)):
        file = f"r_{size}.dat" if fmt in _FLAC else "r.dat"
        unit = units[i] if units else "mV"
        lines.append(f"{file} {fmt}x{size} {gain + i}({7 * i})/{unit} 12 0 0 0 0 {lead}")
    (folder / "r.hea").write_text("\n".join(lines) + "\n")
    if fmt in _FLAC:
        for size in set(sizes):
            lowest = -(2**15) if fmt != "524" else -(2**31)
            dtype = np.int16 if fmt != "524" else np.int32
            x = rng.integers(lowest, -lowest, (frames * size, sizes.count(size)), dtype)
            x[3:6] = lowest
            soundfile.write(folder / f"r_{size}.dat", x, 500, _FLAC[fmt], format="FLAC")
        return
    size, samples, missing = _BLOCKS[fmt]
    content = rng.integers(0, 256, (-(-frames * sum(sizes) // samples), size), np.uint8)
    if fmt == "311":
        content[:, 3] &= 63
    content[4:9] = list(bytes.fromhex(missing))
    content.tofile(folder / "r.dat")


def of_wfdb(path, **kwargs):
    """Returns each channel at its own rate, in physical units, as wfdb reads it."""
    return wfdb.rdrecord(str(path), smooth_frames=False, **kwargs).e_p_signal


@pytest.mark.parametrize(
    "fmt", ["16", "24", "32", "61", "80", "160", "212", "310", "311", "508", "516", "524"]
)
@pytest.mark.parametrize("size", [1, 4])
def test_every_format_reads_as_by_wfdb(tmp_path, fmt, size):
    write_frames(tmp_path, fmt=fmt, frames=301, sizes=[size] * 3)
    found = read_recording(tmp_path / "r")
    expected = of_wfdb(tmp_path / "r")
    assert found.fs == 62.4725 * size
    assert np.isnan(found.signal_mv).any()
    np.testing.assert_array_equal(found.signal_mv, np.stack(expected))
    for start, stop in ((0, 1), (1, 2), (5, 23), (17, 290), (301 * size - 2, 301 * size)):
        part = read_recording(tmp_path / "r", start=start, stop=stop, leads=["V3", "V1"])
        np.testing.assert_array_equal(part.signal_mv, found.signal_mv[[2, 0], start:stop])


def test_differences_add_up_from_the_beginning(tmp_path):
    """Format 8, which wfdb reads but does not write; read from the middle it goes wrong there."""
    differences = np.random.default_rng(0).integers(-90, 90, (200, 2)).astype("i1")
    differences.tofile(tmp_path / "r.dat")
    (tmp_path / "r.hea").write_text(
        "r 2 250 200\nr.dat 8 200 12 0 -50 0 0 I\nr.dat 8 200 12 0 11 0 0 II\n"
    )
    found = read_recording(tmp_path / "r")
    expected = (np.array([[-50], [11]]) + differences.T.cumsum(axis=1, dtype=int)) / 200
    np.testing.assert_array_equal(found.signal_mv, expected)
    np.testing.assert_array_equal(wfdb.rdrecord(str(tmp_path / "r")).p_signal.T, expected)
    part = read_recording(tmp_path / "r", start=60, stop=90)
    np.testing.assert_array_equal(part.signal_mv, expected[:, 60:90])


@pytest.mark.parametrize("fmt", ["16", "212", "516"])
def test_monitor_with_several_samples_per_frame(tmp_path, fmt):
    """The layout of the MIMIC waveforms: the ECG at 249.89 Hz in frames at 62.4725 Hz."""
    sizes, units = zip(*_MONITOR.values(), strict=True)
    write_frames(tmp_path, fmt=fmt, frames=700, sizes=sizes, leads=list(_MONITOR), units=units)
    expected = of_wfdb(tmp_path / "r")
    header = read_header(tmp_path / "r")
    assert header.fs == pytest.approx(249.89) and header.samples == 2800
    ecg = read_recording(tmp_path / "r", leads=["V", "II"])
    np.testing.assert_array_equal(ecg.signal_mv, np.stack([expected[1], expected[0]]))
    opened = open_recording(tmp_path / "r")
    assert opened.header.leads == ("II", "V")
    assert opened.header.fs == header.fs
    assert [reason.split(":")[0] for reason in opened.left_out] == ["Pleth", "Resp"]
    part = opened.read(leads=["II"], start=1001, stop=2003)
    np.testing.assert_array_equal(part.signal_mv[0], expected[0][1001:2003])


def test_ecg_leads_of_several_rates_are_brought_to_the_highest(tmp_path):
    frames, seconds = 5000, 20
    fine, coarse = np.arange(2 * frames) / 500, np.arange(frames) / 250
    wave = [np.sin(2 * np.pi * 7 * t) + 0.5 for t in (fine, coarse, coarse)]
    wave[1][900:950] = np.nan
    wfdb.wrsamp(
        "r", 250, ["mV"] * 3, ["I", "II", "Resp"], e_p_signal=wave, samps_per_frame=[2, 1, 1],
        fmt=["16"] * 3, write_dir=str(tmp_path),
    )  # fmt: skip
    found = read_recording(tmp_path / "r", leads=["I", "II"])
    assert (found.fs, found.signal_mv.shape) == (500.0, (2, seconds * 500))
    gap = slice(1790, 1910)
    assert np.isnan(found.signal_mv[1, gap]).sum() == pytest.approx(100, abs=2)
    inner = np.r_[100:1790, 1910:9900]
    np.testing.assert_allclose(
        found.signal_mv[:, inner], wave[0][None, inner] * [[1], [1]], atol=2e-3
    )
    exact = preprocessing.resample(of_wfdb(tmp_path / "r", sampto=800)[1], 250, 500)
    np.testing.assert_allclose(found.signal_mv[1, :1500], exact[:1500], atol=1e-4)
    for start, stop in ((0, 700), (1501, 2800), (9000, 10_000)):
        part = read_recording(tmp_path / "r", leads=["II"], start=start, stop=stop).signal_mv
        np.testing.assert_allclose(part, found.signal_mv[1:, start:stop], atol=5e-4)


@pytest.mark.parametrize("fmt", ["16", "212"])
def test_each_channel_has_its_skew(tmp_path, fmt):
    """Whole against wfdb without skews; wfdb itself fails where channels differ in theirs."""
    write_frames(tmp_path, fmt=fmt, frames=100, sizes=[2, 2, 2])
    straight = read_recording(tmp_path / "r").signal_mv
    header = tmp_path / "r.hea"
    first, *lines = header.read_text().splitlines()
    lines = [
        line.replace(f"{fmt}x2", f"{fmt}x2:{skew}")
        for line, skew in zip(lines, (0, 3, 5), strict=True)
    ]
    header.write_text("\n".join([first, *lines]) + "\n")
    found = read_recording(tmp_path / "r").signal_mv
    for row, skew in enumerate((0, 3, 5)):
        np.testing.assert_array_equal(found[row, : 200 - 2 * skew], straight[row, 2 * skew :])
        assert np.isnan(found[row, 200 - 2 * skew :]).all()
    part = read_recording(tmp_path / "r", start=41, stop=196).signal_mv
    np.testing.assert_array_equal(part, found[:, 41:196])


@pytest.mark.parametrize("fmt", ["16", "24", "32", "61", "80", "160", "212", "310", "311"])
@pytest.mark.parametrize("frames", [6, 11, 250])
def test_headers_without_a_length(tmp_path, fmt, frames):
    write_frames(tmp_path, fmt=fmt, frames=frames, sizes=[1, 2, 1])
    expected = of_wfdb(tmp_path / "r")
    header = tmp_path / "r.hea"
    first, *lines = header.read_text().splitlines()
    header.write_text("\n".join([first.rsplit(" ", 1)[0], *lines]) + "\n")
    found = read_header(header)
    assert (found.samples, found.fs) == (2 * frames, 2 * 62.4725)
    np.testing.assert_array_equal(read_recording(header, leads=["V2"]).signal_mv[0], expected[1])
    again = of_wfdb(tmp_path / "r")
    np.testing.assert_array_equal(again[1], expected[1])


def test_a_compressed_record_needs_its_length(tmp_path):
    write_frames(tmp_path, fmt="516", frames=50, sizes=[1])
    header = tmp_path / "r.hea"
    header.write_text(header.read_text().replace(" 62.4725 50", " 62.4725"))
    with pytest.raises(RecordingError, match=r"r\.hea: no number of samples.*format 516.*add it"):
        read_header(header)


@pytest.mark.parametrize("fmt", ["24", "32", "80", "212", "310", "311"])
def test_a_sample_too_few_is_a_truncated_file(tmp_path, fmt):
    write_frames(tmp_path, fmt=fmt, frames=120, sizes=[1, 1])
    file = tmp_path / "r.dat"
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(RecordingError, match=r"r\.dat: truncated: room for 119 samples"):
        read_recording(tmp_path / "r")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("r.dat 16", "r.dat 99", "storage format 99 of r.dat; expected one, of 8, 16"),
        ("r.dat 16x2", "r.dat 212x2", "storage format 16, 212 of r.dat"),
        ("16x2", "16x0", "no samples per frame"),
    ],
)
def test_formats_that_cannot_be(tmp_path, old, new, message):
    write_frames(tmp_path, fmt="16", frames=50, sizes=[1, 2])
    header = tmp_path / "r.hea"
    assert old in header.read_text()
    header.write_text(header.read_text().replace(old, new))
    with pytest.raises(RecordingError, match=message):
        read_recording(tmp_path / "r", leads=["V1"])
