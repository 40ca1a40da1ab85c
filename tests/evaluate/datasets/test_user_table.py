"""Users' own tables: kinds told by what columns hold, splits by seed, and every mistake named."""

import numpy as np
import pandas as pd
import pytest

from clef_jax.data.recordings.recording import Hints
from clef_jax.evaluate.datasets.folders import DatasetError
from clef_jax.evaluate.datasets.user_table import user_task
from clef_jax.evaluate.tasks.examples import ExamplesError
from clef_jax.tables.columns import TableError

ROWS = 60


@pytest.fixture
def write(tmp_path):
    """Writes a table beside its (empty) recordings and returns its path."""
    for at in range(ROWS):
        (tmp_path / f"r{at}.edf").touch()

    def write(name="labels.csv", rows=ROWS, **columns):
        table = pd.DataFrame({"file": [f"r{at}.edf" for at in range(rows)]})
        table = table.assign(**columns).dropna(axis=1, how="all")
        path = tmp_path / name
        if name.endswith(".parquet"):
            table.to_parquet(path)
        else:
            table.to_csv(path, index=False)
        return path

    return write


def examples_of(path, lead="I", **options):
    return user_task(path, **options).examples("", "clean", lead)


THIRDS = np.arange(ROWS) % 3
WORDS = ["train", "val", "Test"]


@pytest.mark.parametrize("suffix", ["csv", "parquet", "tsv.csv"])
def test_kinds_are_told_by_what_columns_hold(write, suffix):
    name = f"t.{suffix}"
    for columns, kind, classes in (
        ({"af": THIRDS == 1}, "binary", ("af",)),
        ({"af": (THIRDS == 1) * 1.0}, "binary", ("af",)),
        ({"af": (THIRDS == 1) * 1, "mi": (THIRDS == 2) * 1}, "multilabel", ("af", "mi")),
        ({"rhythm": np.array(["SR", "AF", "AFL"])[THIRDS]}, "multiclass", ("AF", "AFL", "SR")),
        ({"lvef": 30 + THIRDS + 0.5}, "regression", ("lvef",)),
    ):
        task = user_task(write(name, **columns))
        assert (task.info.kind, task.info.classes) == (kind, classes)
    task = user_task(write(name, grade=THIRDS), kind="multiclass")
    assert task.info.classes == ("0", "1", "2")


def test_without_a_split_patients_are_shared_out_and_the_seed_said(write):
    path = write(patient=[f"{at // 2:03}" for at in range(ROWS)], af=(THIRDS == 1) * 1)
    examples = examples_of(path)
    assert examples.notes == (
        "Split by seed 0, patients disjoint, balanced by label: "
        f"{len(examples.of('train'))} train, {len(examples.of('validation'))} validation, "
        f"{len(examples.of('test'))} test.",
    )
    people = examples.table.groupby("patient")
    assert (people["split"].nunique() == 1).all() and people.ngroups == 30
    counts = people["split"].first().value_counts()
    assert counts.to_dict() == {"train": 21, "test": 6, "validation": 3}
    assert examples.table["patient"].iloc[0] == "000"
    assert examples_of(path).split_hash == examples.split_hash
    assert examples_of(path, seed=1).split_hash != examples.split_hash
    assert "by seed 1" in examples_of(path, seed=1).notes[0]
    with pytest.raises(ExamplesError, match="no preset 'reference'"):
        user_task(path).examples("", "reference", "I")


def test_what_the_table_says_is_kept(write):
    path = write(
        File=[f"r{at}.edf" for at in range(ROWS)], file=None,
        Split=np.array(WORDS)[THIRDS], lead=["V2", ""] * 30, start_s=np.arange(ROWS) / 2,
        age=["61", ""] * 30, sex=["M", "f"] * 30, site=["a", ""] * 30, sbp=np.arange(ROWS) + 90.0,
    )  # fmt: skip
    task = user_task(path, hints=Hints(fs=250.0))
    examples = task.examples("", "clean", "II")
    table = examples.table
    assert examples.notes == ("No column patient: every file counts as a patient of its own.",)
    assert table["split"].tolist() == ["train", "validation", "test"] * 20
    assert table["lead"].tolist()[:2] == ["V2", "II"] and table["start_s"].iloc[3] == 1.5
    assert table["age"].iloc[0] == 61 and np.isnan(table["age"].iloc[1])
    assert table["sex"].tolist()[:2] == ["male", "female"]
    assert table["site"].tolist()[:2] == ["a", "unknown"] and table["sbp"].iloc[5] == 95
    assert examples.hints.fs == 250 and examples.root == str(path.parent)
    assert (table["patient"] == table["file"]).all() and table["window_s"].eq(10).all()


def test_unknown_labels_are_masked_not_dropped(write):
    af, mi = (THIRDS == 1) * 1.0, (THIRDS == 2) * 1.0
    af[:7], mi[:3] = np.nan, np.nan
    examples = examples_of(write(af=af, mi=mi))
    assert len(examples.table) == ROWS - 3 and examples.table["af"].isna().sum() == 4
    assert "3 examples left out: no label of them is known." in examples.notes


def test_labels_that_cannot_be_learnt_or_tested_are_left_out(write):
    rare = np.zeros(ROWS)
    rare[THIRDS == 2] = 1
    always = np.ones(ROWS)
    path = write(split=np.array(WORDS)[THIRDS], rare=rare, always=always, af=np.arange(ROWS) % 2)
    examples = examples_of(path)
    assert examples.labels == ("af",) and "rare" not in examples.table
    assert "rare (0 of 20 in train, 20 of 20 in test)" in examples.notes[-1]
    assert "always (20 of 20" in examples.notes[-1]
    with pytest.raises(ExamplesError, match="no label is both there and not there"):
        examples_of(path, labels=("rare", "always"))


def test_a_person_known_by_a_column_may_be_asked_for_as_label(write):
    path = write(age=np.arange(ROWS) + 20, af=THIRDS == 1, Sex=["m", "f"] * 30)
    assert examples_of(path, labels=["age"]).labels == ("age",)
    assert user_task(path, labels=["Sex"]).info.classes == ("f", "m")


@pytest.mark.parametrize(
    ("columns", "options", "said"),
    [
        ({"afib": THIRDS == 1}, {"labels": ["afb"]}, "no label column 'afb'; the nearest are afib"),
        ({"patient": 1}, {}, "no label column: file, patient all mean something else"),
        ({"a": THIRDS, "b": THIRDS == 1}, {}, "2 label columns, but a hold other than 0 and 1"),
        ({"x": ["3", "4", "high"] * 20}, {}, "x: numbers but for 'high' .row 3., .* and 15 more"),
        ({"x": ["3", "4", "high"] * 20}, {"kind": "regression"}, "found 'high' .row 3.*a number"),
        ({"x": THIRDS}, {"kind": "binary"}, "label x: found '2' .row 3.*expected 0 or 1"),
        ({"x": THIRDS}, {"kind": "ordinal"}, "kind 'ordinal'; expected multilabel, multiclass"),
        ({"x": THIRDS, "y": 1}, {"kind": "regression"}, "regression asks for one label column"),
        ({"x": ["AF"] * ROWS}, {}, "label x has 1 class"),
        ({"x": 5.5}, {}, "label x has 1 value"),
        ({"x": THIRDS == 1, "Patient": 1, "patient": 2}, {}, "two columns patient"),
        ({"x": THIRDS == 1, "split": "training"}, {}, "column split: found 'training' in row 1"),
        ({"x": THIRDS == 1, "start_s": -1}, {}, "start_s: found '-1' in row 1"),
        ({"x": THIRDS == 1, "file": ""}, {}, "column file is empty in row 1"),
        ({"x": THIRDS == 1, "file": "r1.edf"}, {}, "59 examples occur twice, such as r1.edf@0"),
        ({"x": THIRDS == 1, "split": "train"}, {}, "no labelled example in validation, test"),
        ({"x": THIRDS == 1, "split": np.array(WORDS)[THIRDS]}, {},
         "class x occurs in validation but never in train"),
        ({"x": np.arange(ROWS) % 2 * (THIRDS < 2), "split": np.array(WORDS)[THIRDS]}, {},
         "test has one class only .not x."),
        ({"x": np.array(["a", "b", "c"])[THIRDS], "split": np.array(WORDS)[THIRDS]}, {},
         "class b occurs in validation but never in train"),
        ({"x": np.arange(ROWS) % 2, "patient": THIRDS * 0 + np.arange(ROWS) // 10,
          "split": np.array(WORDS)[THIRDS]}, {},
         "6 patients are in more than one split: 0, 1, 2, 3, 4 and 1 more"),
    ],
)  # fmt: skip
def test_mistakes_are_named(write, columns, options, said):
    with pytest.raises(ExamplesError, match=said):
        examples_of(write(**columns), **options)


def test_files_elsewhere_and_tables_that_are_none(write, tmp_path):
    path = write(x=THIRDS == 1)
    with pytest.raises(DatasetError, match=r"60 of 60 recordings are not in .*such as r0.edf"):
        user_task(path).examples(str(tmp_path / "other"), "clean", "I")
    for at in range(3):
        (tmp_path / f"r{at}.edf").unlink()
    assert len(examples_of(path).table) == ROWS  # 5 %: whoever reads them tells which.
    with pytest.raises(TableError, match="no such file"):
        user_task(tmp_path / "absent.csv")
    pd.DataFrame({"path": ["a"], "x": [1]}).to_csv(path, index=False)
    with pytest.raises(ExamplesError, match="no column file; found path, x"):
        user_task(path)
