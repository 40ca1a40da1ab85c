"""PTB-XL: the counts of its tasks on the real table, and what of it makes a label."""

import shutil

import pandas as pd
import pytest

from clef_jax.data.recordings import open_recording
from clef_jax.evaluate.datasets import ptbxl
from clef_jax.evaluate.datasets.folders import DatasetError
from clef_jax.evaluate.datasets.suite import TASKS
from clef_jax.evaluate.tasks.examples import ExamplesError
from clef_jax.tables.columns import TableError

# Examples in train, validation and test; classes of the whole, those present, those testable.
COUNTS = {
    "diagnostic": ((223, 51, 49), 44, 33, 13),
    "subdiagnostic": ((223, 51, 49), 23, 21, 12),
    "superdiagnostic": ((223, 51, 49), 5, 5, 5),
    "form": ((57, 16, 11), 19, 17, 8),
    "rhythm": ((212, 53, 50), 12, 8, 4),
}
SUPER = {
    "CD": (37, 8, 7), "HYP": (15, 7, 6), "MI": (34, 11, 7), "NORM": (144, 24, 29),
    "STTC": (36, 18, 11),
}  # fmt: skip


def per_split(examples):
    return tuple(len(examples.of(split)) for split in ("train", "validation", "test"))


@pytest.mark.parametrize("name", COUNTS)
def test_counts_of_the_real_table(real_data, name):
    sizes, in_all, present, testable = COUNTS[name]
    task = TASKS[f"ptbxl/{name}"]
    classes = sorted(set(ptbxl.class_of_statements(str(real_data / "ptb-xl"), name).values()))
    assert task.info.classes == tuple(classes) and len(classes) == in_all
    reference = task.examples(str(real_data), "reference", "II")
    clean = task.examples(str(real_data / "ptb-xl"), "clean", "II")
    assert per_split(reference) == per_split(clean) == sizes
    assert len(reference.labels) == present and len(clean.labels) == testable
    assert reference.split_hash == clean.split_hash
    assert (reference.label_hash == clean.label_hash) == (present == testable)
    for split in ("train", "test"):
        assert (clean.of(split)[list(clean.labels)].sum() > 0).all()
    left_out = set(reference.labels) - set(clean.labels)
    assert all(f"{label} (" in clean.notes[-1] for label in left_out)


def test_superclasses_of_the_real_table(real_data):
    task = TASKS["ptbxl/superdiagnostic"]
    examples = task.examples(str(real_data), "clean", "I")
    for label, counts in SUPER.items():
        found = [int(examples.of(s)[label].sum()) for s in ("train", "validation", "test")]
        assert tuple(found) == counts, label
    table = pd.read_csv(real_data / "ptb-xl" / "ptbxl_database.csv").set_index("ecg_id")
    rows = examples.table.set_index(examples.table["example"].astype(int))
    assert (rows["patient"].astype(int) == table["patient_id"].loc[rows.index].astype(int)).all()
    assert ((rows["sex"] == "female") == (table["sex"].loc[rows.index] == 1)).all()
    assert rows["lead"].eq("I").all()
    over = rows["age"] == 90
    assert (table["age"].loc[rows.index][over].isin([90, 300])).all()
    assert rows["age"].max() <= 90
    header = open_recording(f"{examples.root}/{rows['file'].iloc[0]}").header
    assert header.fs == 500 and header.samples == 5000 and "I" in header.leads


def test_reference_sees_the_first_two_seconds_stretched():
    prepared = ptbxl.reference_preparation()
    assert (prepared.assumed_fs, prepared.resampling, prepared.band_hz) == (100, "fourier", None)
    assert prepared.scale == "train"
    assert TASKS["ptbxl/form"].preparation("clean") is None


@pytest.fixture
def copy(real_data, tmp_path):
    for name in ("ptbxl_database.csv", "scp_statements.csv"):
        shutil.copy(real_data / "ptb-xl" / name, tmp_path / name)
    (tmp_path / "records500").mkdir()
    return tmp_path


def test_a_statement_of_likelihood_zero_counts(copy):
    table = pd.read_csv(copy / "ptbxl_database.csv", dtype=str)
    table.loc[0, "scp_codes"] = "{'AFIB': 0.0, 'NORM': 80.0}"
    table.to_csv(copy / "ptbxl_database.csv", index=False)
    read = ptbxl.read_database(str(copy))
    assert read["statements"].iloc[0] == ("AFIB", "NORM")


def test_what_is_missing_or_damaged_is_named(copy, tmp_path):
    task = TASKS["ptbxl/superdiagnostic"]
    with pytest.raises(DatasetError, match=r"323 of 323 recordings .* and 318 more; wget"):
        task.examples(str(copy), "clean", "II")
    with pytest.raises(DatasetError, match="needs ptbxl_database.csv, scp_statements.csv"):
        task.examples(str(tmp_path / "records500"), "clean", "II")
    with pytest.raises(ExamplesError, match="no lead 'V9'"):
        task.examples(str(copy), "clean", "V9")
    table = pd.read_csv(copy / "ptbxl_database.csv", dtype=str)
    table.loc[3, "scp_codes"] = "NORM: 100"
    table.to_csv(copy / "ptbxl_database.csv", index=False)
    with pytest.raises(TableError, match="scp_codes: found 'NORM: 100'"):
        task.examples(str(copy), "clean", "II")
    table.drop(columns="strat_fold").to_csv(copy / "ptbxl_database.csv", index=False)
    with pytest.raises(TableError, match="no column strat_fold"):
        task.examples(str(copy), "clean", "II")


def test_a_patient_in_two_folds_is_refused(copy):
    table = pd.read_csv(copy / "ptbxl_database.csv", dtype=str)
    table = table[:20]
    table["patient_id"], table["strat_fold"] = "7.0", [str(1 + at % 10) for at in range(20)]
    table.to_csv(copy / "ptbxl_database.csv", index=False)
    for name in table["filename_hr"]:
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / f"{name}.hea").write_text("")
    with pytest.raises(ExamplesError, match="1 patients are in more than one split: 7"):
        TASKS["ptbxl/rhythm"].examples(str(copy), "clean", "II")
