"""Aurora-BP: one recording a participant, however many rows of features."""

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from clef_jax.data.recordings import open_recording
from clef_jax.evaluate.datasets import aurorabp
from clef_jax.evaluate.datasets.folders import DatasetError
from clef_jax.evaluate.datasets.suite import TASKS
from tests.evaluate.datasets.native import write_aurora
from tests.evaluate.datasets.people import aurora_people


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    root = tmp_path_factory.mktemp("aurora")
    write_aurora(root, aurora_people())
    return root


def test_reference_repeats_a_recording_for_each_feature_row(native):
    examples = TASKS["aurorabp/sbp"].examples(str(native), "reference", "II")
    table = examples.table
    assert table["patient"].nunique() == 30 and len(table) == sum(1 + at % 4 for at in range(30))
    assert (table.groupby("file")["example"].size() > 1).any()  # Q12
    assert (table.groupby("patient")["split"].nunique() == 1).all()
    pids = [f"a{number:03}" for number in range(30)]
    train, held_out = train_test_split(pids, test_size=0.3, random_state=42)
    validation, test = train_test_split(held_out, test_size=0.5, random_state=42)
    for split, names in (("train", train), ("validation", validation), ("test", test)):
        assert set(table["patient"][table["split"] == split]) == set(names)
    prepared = TASKS["aurorabp/sbp"].preparation("reference")
    assert (prepared.window, prepared.missing, prepared.short) == ("random", "drop", "zeros before")


@pytest.mark.parametrize("count", [7, 20, 101, 1118])
def test_the_reference_splitter_is_scikit_learns(count):
    pids = np.arange(count)
    train, held_out = train_test_split(pids, test_size=0.3, random_state=42)
    validation, test = train_test_split(held_out, test_size=0.5, random_state=42)
    split = aurorabp.reference_splits(pids)
    for name, chosen in (("train", train), ("validation", validation), ("test", test)):
        assert set(np.flatnonzero(split == name)) == set(chosen)


def test_clean_has_one_row_a_participant(native):
    examples = TASKS["aurorabp/dbp"].examples(str(native.parent), "clean", "I")
    table = examples.table
    assert len(table) == 30 and table["patient"].is_unique
    counts = table["split"].value_counts()
    for split, count in (("train", 21), ("validation", 3), ("test", 6)):
        assert abs(counts[split] - count) <= 1
    assert table["age"].iloc[0] == 40.5 and set(table["sex"]) == {"male", "female"}
    opened = open_recording(
        f"{examples.root}/{table['file'].iloc[0]}", fs=examples.hints.fs, units=examples.hints.units
    )
    part = opened.read(leads=[table["lead"].iloc[0]], stop=5000)
    assert part.fs == 500 and part.signal_mv.shape == (1, 5000)
    assert 6.0 < part.signal_mv.mean() < 7.0
    assert examples.labels == ("diastolic pressure",)


def test_without_recordings_the_way_to_them_is_told(tmp_path):
    write_aurora(tmp_path, {"a000": (120, 80, 2, None)})
    with pytest.raises(DatasetError, match="none of 1 participants.*aurorabp@microsoft.com"):
        TASKS["aurorabp/sbp"].examples(str(tmp_path), "clean", "I")
