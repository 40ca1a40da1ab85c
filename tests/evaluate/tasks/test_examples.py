"""The table that every task is: its checks and its hashes."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from clef_jax.evaluate.tasks.examples import (
    Examples,
    ExamplesError,
    first_few,
    require_disjoint,
    without_unlabelled,
)
from clef_jax.evaluate.tasks.task import TaskInfo, choose_lead, label_counts


def table(rows=6):
    return pd.DataFrame({
        "example": [f"e{at}" for at in range(rows)],
        "patient": [f"p{at // 2}" for at in range(rows)],
        "split": ["train", "train", "validation", "validation", "test", "test"][:rows],
        "file": [f"f{at}" for at in range(rows)],
        "lead": "I",
        "start_s": 0.0,
        "window_s": 10.0,
        "af": [0.0, 1.0] * (rows // 2),
    })  # fmt: skip


def test_people_have_a_hash_of_their_own():
    one = Examples(table().assign(sex="male"), "root", ("af",))
    other = Examples(table().assign(sex="female"), "root", ("af",))
    nobody = Examples(table(), "root", ("af",))
    assert len({one.people_hash, other.people_hash, nobody.people_hash}) == 3
    assert one.label_hash == other.label_hash == nobody.label_hash


def test_hashes_tell_splits_and_labels_apart_but_not_orders():
    one = Examples(table(), "root", ("af",))
    order = np.random.default_rng(0).permutation(6)
    shuffled = Examples(table().iloc[order].reset_index(drop=True), "elsewhere", ("af",), ("n",))
    assert (one.split_hash, one.label_hash) == (shuffled.split_hash, shuffled.label_hash)
    assert len(one.split_hash) == 16 and int(one.split_hash, 16) >= 0
    for column, value, changes in (
        ("patient", "q", "split"), ("split", "test", "split"), ("af", np.nan, "label"),
        ("lead", "II", "label"), ("start_s", 1.0, "label"), ("file", "g", "label"),
    ):  # fmt: skip
        other = table()
        other.loc[2, column] = value
        other = Examples(other, "root", ("af",))
        assert (other.split_hash != one.split_hash) == (changes == "split"), column
        assert (other.label_hash != one.label_hash) == (changes == "label"), column


def test_what_is_no_table_of_examples_is_refused():
    with pytest.raises(ExamplesError, match="without column patient, mi"):
        Examples(table().drop(columns="patient"), "root", ("af", "mi"))
    with pytest.raises(ExamplesError, match="without a label"):
        Examples(table(), "root", ())
    again = pd.concat([table(), table()[:2]], ignore_index=True)
    with pytest.raises(ExamplesError, match="2 examples occur twice, such as e0, e1"):
        Examples(again, "root", ("af",))
    with pytest.raises(ExamplesError, match="split 'dev' of example e0"):
        Examples(table().assign(split="dev"), "root", ("af",))
    torn = table().assign(patient="p", split=["train", "test"] * 3)
    with pytest.raises(ExamplesError, match="1 patients are in more than one split: p;"):
        require_disjoint(Examples(torn, "root", ("af",)))


def test_rows_of_no_label_are_left_out_and_rows_of_some_are_not():
    both = table().assign(mi=[np.nan, np.nan, 0, 1, 0, 1])
    both.loc[0, "af"] = np.nan
    kept = without_unlabelled(Examples(both, "root", ("af", "mi")))
    assert kept.table["example"].tolist() == ["e1", "e2", "e3", "e4", "e5"]
    assert kept.table.index.tolist() == list(range(5))
    assert kept.notes == ("1 examples left out: no label of them is known.",)
    assert without_unlabelled(kept) is kept


def test_counts_of_each_kind():
    info = TaskInfo("t", "binary", ("af",))
    counts = label_counts(info, Examples(table(), "root", ("af",)))
    assert counts["test"] == {"examples": 2, "patients": 1, "af": 1}
    classes = table().rename(columns={"af": "class"}).assign(**{"class": [0, 2, 2, 1, 0, np.nan]})
    info = TaskInfo("t", "multiclass", ("a", "b", "c"))
    counts = label_counts(info, Examples(classes, "root", ("class",)))
    assert counts["train"] == {"examples": 2, "patients": 1, "a": 1, "b": 0, "c": 1}
    assert counts["test"] == {"examples": 2, "patients": 1, "a": 1, "b": 0, "c": 0}
    values = table().assign(af=[60.0, np.nan, 1, 2, 3, 4])
    info = TaskInfo("t", "regression", ("af",))
    assert label_counts(info, Examples(values, "root", ("af",)))["train"]["af"] == 1


def test_leads_by_name():
    info = TaskInfo("t", "binary", ("af",), leads=("I", "aVR"))
    assert choose_lead(info, "AVR") == "aVR" and choose_lead(info, "lead I") == "I"
    with pytest.raises(ExamplesError, match="t: no lead 'V1'; the recordings have I, aVR"):
        choose_lead(info, "V1")
    assert choose_lead(dataclasses.replace(info, leads=("ekg",)), "V1") == "ekg"


def test_names_in_messages_are_five_at_most():
    assert first_few("abcde") == "a, b, c, d, e"
    assert first_few(range(1200)) == "0, 1, 2, 3, 4 and 1,195 more"
