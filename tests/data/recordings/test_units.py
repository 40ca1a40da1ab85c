"""Units that WFDB headers declare, and whether the amplitudes bear them out."""

import numpy as np
import pytest

from clef_jax.data.recordings import RecordingError, open_recording, read_recording
from clef_jax.data.signals.leads import STANDARD_LEADS
from tests.wfdb_records import edit_header, write_record


@pytest.mark.parametrize(
    ("units", "mv_per_unit"),
    [("mV", 1), ("mv", 1), ("uV", 1e-3), ("µV", 1e-3), ("μV", 1e-3), ("V", 1e3), ("nV", 1e-6)],
)
def test_units(tmp_path, units, mv_per_unit):
    x = write_record(tmp_path, gain=1000 * mv_per_unit, units=units)
    np.testing.assert_allclose(read_recording(tmp_path / "r").signal_mv, x / 1000, atol=1e-12)


def test_a_lead_in_an_unknown_unit_is_left_out_unless_the_gain_is_given(tmp_path):
    x = write_record(tmp_path, gain=1.0)
    edit_header(tmp_path, "(0)/mV 16 0 0 0 0 II\n", "(0)/adu 16 0 0 0 0 II\n")
    opened = open_recording(tmp_path / "r")
    assert opened.left_out == ("II: unit 'adu', expected mV, uV, µV, nV or V",)
    assert opened.header.leads == ("I", *STANDARD_LEADS[2:])
    found = read_recording(tmp_path / "r", adu_per_mv=1000)
    assert found.leads == STANDARD_LEADS
    np.testing.assert_allclose(found.signal_mv, x / 1000)


def test_micro_sign_in_latin_1(tmp_path):
    x = write_record(tmp_path, gain=1, units="µV")
    path = tmp_path / "r.hea"
    path.write_bytes(path.read_text(encoding="utf-8").encode("latin-1"))
    np.testing.assert_allclose(read_recording(path).signal_mv, x / 1000)


def test_adu_per_mv_overrides_the_gains_of_ludb(real_data):
    path = real_data / "ludb/data/10"
    stretched = read_recording(path)
    np.testing.assert_allclose(np.ptp(stretched.signal_mv, axis=1), 1, atol=0.01)
    found = read_recording(path, adu_per_mv=1000)
    one, two, three = found.signal_mv[:3]
    np.testing.assert_allclose(three, two - one, atol=2e-3)


@pytest.mark.parametrize(("gain", "units"), [(1, "mV"), (1000, "V"), (1, "mv")])
def test_microvolts_declared_as_millivolts(tmp_path, gain, units):
    write_record(tmp_path, gain=gain, units=units)
    with pytest.raises(RecordingError) as error:
        read_recording(tmp_path / "r")
    for part in ("r.hea", "gain/units", units, "span 1", "expected 0.1 to 10 mV", "write /uV"):
        assert part in str(error.value)


def test_millivolts_declared_as_microvolts(tmp_path):
    write_record(tmp_path, gain=1000, units="uV")
    with pytest.raises(RecordingError, match="probably mV; write /mV as the unit"):
        read_recording(tmp_path / "r")


def test_artefacts_are_no_unit_mistake(tmp_path):
    x = np.random.default_rng(0).normal(0, 30, (12, 5000)).astype("<i2")
    x[:, 700:720] = 32767
    write_record(tmp_path, x=x, gain=200)
    assert read_recording(tmp_path / "r").signal_mv.max() > 100


@pytest.mark.parametrize(
    ("units", "gain", "stretch"),
    [("uV", 1.0, [-3, 4]), ("mV", 100.0, [-32767, 32767])],
    ids=["silent", "at the rail"],
)
@pytest.mark.parametrize("begin", [0, 40])
def test_stretches_without_an_ecg_are_no_unit_mistake(tmp_path, units, gain, stretch, begin):
    """The electrodes of a Holter fall off; what else it holds tells its unit."""
    x = np.random.default_rng(0).normal(0, 300 if gain == 1.0 else 30, (2, 60 * 250)).astype("<i2")
    x[:, begin * 250 : (begin + 20) * 250] = np.resize(stretch, 20 * 250)
    write_record(tmp_path, x=x, gain=gain, units=units, leads=("II", "V5"), fs=250)
    mv_per_step = 1e-3 if units == "uV" else 0.01
    opened = open_recording(tmp_path / "r")
    for start in (0, 40, 45):
        part = opened.read(start=start * 250, stop=(start + 10) * 250).signal_mv
        expected = x[:, start * 250 : (start + 10) * 250] * mv_per_step
        np.testing.assert_allclose(part, expected, atol=1e-12)


@pytest.mark.parametrize(("units", "gain"), [("uV", 1000.0), ("mV", 1.0)])
def test_a_wrong_unit_shows_in_any_part(tmp_path, units, gain):
    x = np.random.default_rng(0).normal(0, 300, (2, 60 * 250)).astype("<i2")
    x[:, : 20 * 250] = 0
    write_record(tmp_path, x=x, gain=gain, units=units, leads=("II", "V5"), fs=250)
    with pytest.raises(RecordingError, match="field gain/units: declared in"):
        read_recording(tmp_path / "r", start=30 * 250, stop=40 * 250)
