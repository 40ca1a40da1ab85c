"""Icentia11k: windows on beats and in episodes, in its own layout and on real annotation files."""

import random
from collections import Counter

import numpy as np
import pytest
import wfdb

from clef_jax.data.recordings import open_recording
from clef_jax.evaluate.datasets import icentia11k
from clef_jax.evaluate.datasets.beats import BEATS, Episode, read_annotations
from clef_jax.evaluate.datasets.folders import DatasetError
from clef_jax.evaluate.datasets.suite import TASKS
from tests.evaluate.datasets.native import write_annotations, write_icentia
from tests.evaluate.datasets.people import icentia_patient
from tests.wfdb_records import write_record

LENGTH = 2500


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    root = tmp_path_factory.mktemp("icentia11k-continuous-ecg")
    write_icentia(root, dict(icentia_patient(number) for number in range(20)))
    return root


def by_class(examples, task):
    names = np.array(icentia11k.CLASSES[task])
    return Counter(names[examples.table["class"].astype(int)].tolist())


def test_reference_drops_the_class_whose_window_crosses_the_edge(native):
    examples = TASKS["icentia11k/beat"].examples(str(native), "reference", "II")
    found = by_class(examples, "beat")
    # Q5: every patient's first V lies 0.4 s after the start; the good one comes too late. N at
    # sample 300 is drawn by some.
    assert found["V"] == 0 and found["S"] == 20 and 0 < found["N"] < 20
    assert (examples.table.groupby("patient")["class"].nunique() == examples.table.groupby(
        "patient")["class"].size()).all()  # fmt: skip
    sizes = examples.table.groupby("split")["patient"].nunique()
    assert sizes.to_dict() == {"train": 14, "validation": 3, "test": 3}
    patients = [f"p{number:05}" for number in range(20)]
    random.Random(42).shuffle(patients)
    assert set(examples.of("train")["patient"]) == set(patients[:14])
    assert set(examples.of("test")["patient"]) == set(patients[17:])


def test_clean_looks_on_and_centres_beats(native):
    examples = TASKS["icentia11k/beat"].examples(str(native), "clean", "II")
    found = by_class(examples, "beat")
    assert found == {"N": 40, "S": 20, "V": 20}
    table = examples.table
    for number, row in table[table["class"] == 2].groupby("patient").first().iterrows():
        assert row["file"].endswith("_s01")
        assert row["start_s"] == (6000 + int(number[1:]) - LENGTH / 2) / 250
    assert ((table["start_s"] >= 0) & (table["start_s"] + 10 <= 50)).all()
    assert table["episode"].is_unique and table["window_s"].eq(10).all()
    opened = open_recording(f"{examples.root}/{table['file'].iloc[0]}")
    assert opened.header.fs == 250 and table["lead"].iloc[0] in opened.header.leads
    assert (table.groupby("patient")["split"].nunique() == 1).all()


def test_three_seconds_of_fibrillation_are_a_window_of_the_reference_only(native):
    reference = TASKS["icentia11k/rhythm"].examples(str(native), "reference", "I")
    assert by_class(reference, "rhythm") == {"N": 20, "AFIB": 10, "AFL": 20}
    bursts = reference.table[reference.table["class"] == 1]
    assert bursts["start_s"].eq(3000 / 250).all()  # Q6
    clean = TASKS["icentia11k/rhythm"].examples(str(native), "clean", "I")
    found = by_class(clean, "rhythm")
    assert found["AFIB"] == 0 and found["AFL"] == 60 and found["N"] == 60
    assert (clean.table.groupby("episode")["start_s"].size() == 3).all()
    flutter = clean.table[clean.table["class"] == 2]
    assert flutter["start_s"].min() == 2000 / 250
    assert flutter["start_s"].max() + 10 == 11_000 / 250


def test_clean_repeats_itself_and_hardly_depends_on_who_is_there(native, tmp_path):
    one = TASKS["icentia11k/beat"].examples(str(native), "clean", "I")
    again = TASKS["icentia11k/beat"].examples(str(native.parent), "clean", "II")
    assert (one.split_hash, one.label_hash) == (again.split_hash, again.label_hash)
    write_icentia(tmp_path, dict(icentia_patient(number) for number in range(10, 20)))
    part = TASKS["icentia11k/beat"].examples(str(tmp_path), "clean", "I").table
    assert set(part["example"]) <= set(one.table["example"])


def test_damaged_patients_are_left_out_and_many_are_refused(tmp_path):
    people = dict(icentia_patient(number) for number in range(21))
    write_icentia(tmp_path, people)
    (tmp_path / "p00" / "p00003" / "p00003_s00.atr").unlink()
    examples = TASKS["icentia11k/beat"].examples(str(tmp_path), "clean", "I")
    assert "p00003" in examples.notes[0] and "p00003" not in set(examples.table["patient"])
    (tmp_path / "p00" / "p00004" / "RECORDS").unlink()
    with pytest.raises(DatasetError, match="2 of 21 patients cannot be read.*p00004.*p00003"):
        TASKS["icentia11k/beat"].examples(str(tmp_path), "reference", "I")


def test_beats_of_mitdb_by_the_aami_grouping(real_data):
    expected = {
        "100": {"N": 2239, "S": 33, "V": 1},
        "118": {"N": 2166, "S": 96, "V": 16},
        "203": {"N": 2529, "S": 2, "V": 444},
        "217": {"N": 244, "V": 162},
        "222": {"N": 2062 + 212, "S": 208 + 1},
    }
    for record, counts in expected.items():
        found = read_annotations(real_data / "mitdb" / record, 650_000)
        assert Counter(found.beat.tolist()) == counts, record
        starts = icentia11k._centred(found, "N", 3600)
        assert starts[0] + 1800 == found.sample[found.beat == "N"][0]


def test_episodes_of_mitdb_and_cpsc2021(real_data):
    found = read_annotations(real_data / "mitdb" / "222", 650_000).episodes
    assert Counter(e.rhythm for e in found) == {
        "AFL": 42, "N": 32, "NOD": 31, "AFIB": 24, "SVTA": 4, "AB": 3
    }  # fmt: skip
    # Without closing brackets each episode lasts till the next, and the last to the end.
    assert all(one.stop == other.start for one, other in zip(found, found[1:], strict=False))
    assert found[-1].stop == 650_000
    paroxysms = read_annotations(real_data / "cpsc2021" / "data_101_6", 22_355).episodes
    # The fourth paroxysm lasts until the record ends, where a last "(N" stands.
    assert [e.rhythm for e in paroxysms] == ["AFIB", "N"] * 3 + ["AFIB"]
    notes = wfdb.rdann(str(real_data / "cpsc2021" / "data_101_6"), "atr")
    onsets = notes.sample[np.array(notes.symbol) == "+"]
    assert [e.start for e in paroxysms] == onsets[:-1].tolist()
    assert [e.stop for e in paroxysms] == onsets[1:].tolist()
    persistent = read_annotations(real_data / "cpsc2021" / "data_8_4", 8235).episodes
    assert persistent[0].rhythm == "AFIB" and persistent[0].stop - persistent[0].start > 8000
    assert read_annotations(real_data / "cpsc2021" / "data_21_7", 47_201).episodes == ()


def test_windows_of_mitdb_show_one_rhythm_only(real_data):
    found = read_annotations(real_data / "mitdb" / "203", 650_000)
    for rhythm in ("AFIB", "AFL"):
        starts = icentia11k._within_an_episode(found, rhythm, 3600)
        inside = [e for e in found.episodes if e.rhythm == rhythm]
        for start in starts:
            assert any(e.start <= start and start + 3600 <= e.stop for e in inside)


def test_a_closing_bracket_ends_an_episode(tmp_path):
    write_record(tmp_path, "r", leads=("ECG",), fs=250, x=np.zeros((1, 5000), "<i2"))
    notes = [(10, "(N"), (1000, ")"), (2000, "(AFIB")]
    write_annotations(tmp_path, "r", [(50, "N"), (60, "Q"), (70, "+")], notes)
    found = read_annotations(tmp_path / "r", 5000)
    assert found.episodes == (Episode("N", 10, 1000), Episode("AFIB", 2000, 5000))
    assert found.sample.tolist() == [50]
    with pytest.raises(DatasetError, match="no annotations to be read"):
        read_annotations(tmp_path / "absent", 5000)


def test_a_comment_at_the_start_is_passed_over(tmp_path):
    """By one that defines nothing, wfdb's own reader would be held for ever."""
    fields = {"sample": np.array([0, 50, 90]), "fs": 250, "write_dir": str(tmp_path)}
    wfdb.wrann(
        "r", "atr", symbol=['"', "N", "V"], aux_note=["## annotated twice", "", ""], **fields
    )
    found = read_annotations(tmp_path / "r", 5000)
    assert found.sample.tolist() == [50, 90] and found.beat.tolist() == ["N", "V"]
    assert found.episodes == ()


def test_annotations_that_go_back_in_time_are_refused(tmp_path):
    # A skip of -100 samples, then a beat 50 samples later.
    skip = [0, 59 << 2, 0xFF, 0xFF, (2**16 - 100) & 0xFF, (2**16 - 100) >> 8]
    (tmp_path / "r.atr").write_bytes(bytes([200, 1 << 2, *skip, 50, 1 << 2, 0, 0]))
    with pytest.raises(DatasetError, match=r"r\.atr: its annotations go back in time"):
        read_annotations(tmp_path / "r", 5000)


@pytest.mark.parametrize("name", ["mitdb/203", "mitdb/222", "cpsc2021/data_101_6"])
def test_real_annotations_are_those_of_wfdbs_own_reader(real_data, name):
    samples = wfdb.rdheader(str(real_data / name)).sig_len
    found, expected = (
        read_annotations(real_data / name, samples),
        wfdb.rdann(str(real_data / name), "atr"),
    )
    beats = [(at, BEATS[s]) for at, s in zip(expected.sample, expected.symbol, strict=True)
             if s in BEATS]  # fmt: skip
    assert list(zip(found.sample, found.beat, strict=True)) == beats


def test_reference_filters_before_resampling():
    prepared = TASKS["icentia11k/beat"].preparation("reference")
    assert prepared.band_first and prepared.resampling == "fourier" and prepared.scale == "window"
