"""Which channels of a record go into a shard, told by their names."""

import numpy as np
import pytest

from clef_jax.data.recordings.recording import Hints
from clef_jax.data.shards.prepare import Rejection
from clef_jax.data.signals.leads import STANDARD_LEADS
from clef_jax.data.signals.preprocessing import preprocess
from tests.shard_records import first_window

LIMB = STANDARD_LEADS[:6]
CHEST = tuple(f"C{i}" for i in range(1, 7))


@pytest.fixture
def steps():
    """int16 [15, 5000] at 500 Hz and 1000 steps a mV: a beat each second, no two rows alike."""
    rng = np.random.default_rng(0)
    t = np.arange(5000) / 500
    beats = np.outer(rng.uniform(0.5, 1.5, 15), np.exp(-(((t % 1) - 0.5) ** 2) / 2e-4))
    return np.rint(1000 * (beats + rng.normal(0, 0.02, beats.shape))).astype("<i2")


def write_record(folder, steps, labels, unit_of=None):
    lines = [f"r {len(labels)} 500 {steps.shape[1]}"]
    units = {label: "mV" for label in labels} | (unit_of or {})
    lines += [f"r.dat 16 1000/{units[label]} 16 0 0 0 0 {label}" for label in labels]
    (folder / "r.hea").write_text("\n".join(lines) + "\n")
    steps[: len(labels)].T.tofile(folder / "r.dat")
    return str(folder / "r")


def test_of_copies_the_first_is_the_lead(tmp_path, steps):
    labels = ["1", "II", *STANDARD_LEADS, "ecg II"]
    prepared = first_window(write_record(tmp_path, steps, labels))
    assert prepared.leads == STANDARD_LEADS
    rows = [2, 1, *range(4, 14)]  # II is the second channel, not the fourth or the last
    expected = preprocess(steps[rows] / 1000.0, 500.0)
    actual = prepared.steps * prepared.scale_mv[:, None]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=prepared.scale_mv.max())


@pytest.mark.parametrize("adu_per_mv", [None, 1000])
def test_the_axes_of_an_accelerometer_are_no_frank_leads(tmp_path, steps, adu_per_mv):
    labels = [*STANDARD_LEADS, "X", "Y", "Z"]
    path = write_record(tmp_path, steps, labels, unit_of={"X": "g", "Y": "m/s2"})
    prepared = first_window(path, hints=Hints(adu_per_mv=adu_per_mv))
    assert prepared.leads == (*STANDARD_LEADS, "Z")


def test_a_standard_lead_in_another_unit_is_none(tmp_path, steps):
    path = write_record(tmp_path, steps, STANDARD_LEADS, unit_of={"II": "mmHg"})
    with pytest.raises(Rejection, match="missing leads: II$"):
        first_window(path)
    assert first_window(path, min_leads=11).leads == ("I", *STANDARD_LEADS[2:])


@pytest.mark.parametrize(
    ("labels", "missing"),
    [
        ([f"ECG{i}" for i in range(1, 13)], "missing leads: none of I, .*, Z, only ECG1, ECG2"),
        ([str(i) for i in range(1, 13)], "missing leads: none of I, .*, Z, only 1, 2"),
        ([*LIMB, *CHEST[:5]], "missing leads: V1, V2, V3, V4, V5, V6"),
        ([*LIMB, *CHEST, "Cz"], "missing leads: V1, V2, V3, V4, V5, V6"),
    ],
)
def test_numbers_and_electrodes_are_no_leads(tmp_path, steps, labels, missing):
    with pytest.raises(Rejection, match=missing):
        first_window(write_record(tmp_path, steps, labels))


def test_chest_electrodes_are_leads(tmp_path, steps):
    prepared = first_window(write_record(tmp_path, steps, [*LIMB, *CHEST]))
    assert prepared.leads == STANDARD_LEADS
