"""MUSIC: its counts, and windows over a day, on subjects as many as the published."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from clef_jax.evaluate.datasets.folders import DatasetError
from clef_jax.evaluate.datasets.suite import TASKS
from clef_jax.evaluate.tasks.task import label_counts
from clef_jax.tables.columns import TableError
from tests.evaluate.datasets.native import write_music
from tests.evaluate.datasets.people import music_subjects

TASK = TASKS["music"]


def published(draw):
    """Returns 992 subjects by outcome and the 56 without a Holter, 936 left: 683, 57, 88, 108."""
    outcomes = np.repeat([0, 1, 3, 6, 7], [726, 61, 94, 110, 1])
    subjects = [
        (f"P{at:04}", int(outcome)) for at, outcome in enumerate(draw.permutation(outcomes))
    ]
    missing: list[str] = []
    for wanted, count in ((0, 43), (1, 4), (3, 6), (6, 3)):
        names = [name for name, outcome in subjects if outcome == wanted]
        missing += draw.permutation(names)[:count].tolist()
    return subjects, missing


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    root = tmp_path_factory.mktemp("music")
    subjects, missing = published(np.random.default_rng(0))
    write_music(root, subjects, missing)
    return root, subjects, missing


def test_reference_keeps_the_order_of_the_table(whole):
    root, subjects, missing = whole
    examples = TASK.examples(str(root), "reference", "II")
    held = [subject for subject in subjects if subject[0] not in missing]
    assert examples.table["patient"].tolist() == [name for name, _ in held]
    assert examples.table["split"].tolist() == (
        ["train"] * 655 + ["validation"] * 93 + ["test"] * 188
    )  # Q7
    class_of = {0: 0, 1: 1, 3: 2, 6: 3, 7: 3}
    assert examples.table["class"].tolist() == [class_of[outcome] for _, outcome in held]
    assert Counter(examples.table["class"]) == {0: 683, 1: 57, 2: 88, 3: 108}
    assert examples.notes == ("56 of 992 subjects have no Holter recording.",)
    assert examples.table["lead"].eq("X").all() and examples.table["start_s"].eq(0).all()
    prepared = TASK.preparation("reference")
    assert (prepared.band_hz, prepared.scale, prepared.window) == (None, "none", "first valid")


def test_clean_spreads_windows_and_outcomes(whole):
    root, _, missing = whole
    examples = TASK.examples(str(root), "clean", "II")
    table = examples.table
    assert table.groupby("patient").size().eq(24).all() and len(table) == 936 * 24
    assert (table["episode"] == table["patient"]).all()
    starts = table[table["patient"] == table["patient"].iloc[0]]["start_s"].to_numpy()
    assert np.allclose(np.diff(starts), 1800 / 24) and starts[0] == 75 / 2 - 5
    assert starts[-1] + 10 < 1800
    people = table.groupby("patient").first()
    for split, share in (("train", 0.7), ("validation", 0.1), ("test", 0.2)):
        found = people["class"][people["split"] == split].value_counts()
        for number, count in ((0, 683), (1, 57), (2, 88), (3, 108)):
            assert abs(found[number] - share * count) <= 2, (split, number)
    counts = label_counts(TASK.info, examples)["test"]
    assert counts["patients"] == people["split"].eq("test").sum()
    assert not set(missing) & set(table["patient"])


def test_one_more_missing_holter_is_a_partial_download(whole, tmp_path):
    _, subjects, missing = whole
    gone = next(name for name, _ in subjects if name not in missing)
    write_music(tmp_path, subjects, [*missing, gone])
    with pytest.raises(DatasetError, match="57 of 992 Holter recordings are missing.*wget"):
        TASK.examples(str(tmp_path), "clean", "X")


def test_physionets_own_table_says_the_same(tmp_path):
    subjects = music_subjects()
    write_music(tmp_path / "official", subjects, ["P0007"], official=True)
    write_music(tmp_path / "derived", subjects, ["P0007"])
    official = TASK.examples(str(tmp_path / "official"), "reference", "X")
    derived = TASK.examples(str(tmp_path / "derived"), "reference", "X")
    assert official.label_hash == derived.label_hash
    assert official.table["age"].tolist()[:2] == [89, 63]
    assert set(official.table["sex"]) == {"male", "female"}
    # A short recording has one window, at its beginning.
    write_music(tmp_path / "short", subjects, hours=0.01)
    short = TASK.examples(str(tmp_path / "short"), "clean", "X")
    assert len(short.table) == 60 and short.table["start_s"].eq(0).all()
    table = pd.read_csv(tmp_path / "derived" / "outcomes.csv")
    table["outcome"] = 2
    table.to_csv(tmp_path / "derived" / "outcomes.csv", index=False)
    with pytest.raises(TableError, match="outcome: found '2' of P0000, expected 0, 1, 3, 6, 7"):
        TASK.examples(str(tmp_path / "derived"), "clean", "X")
