"""MIMIC-IV-ECG with LVEF labels: columns by place, patients kept together or not."""

import numpy as np
import pandas as pd
import pytest

from clef_jax.data.recordings import open_recording
from clef_jax.evaluate.datasets import mimic_lvef
from clef_jax.evaluate.datasets.folders import DatasetError
from clef_jax.evaluate.datasets.suite import TASKS
from clef_jax.evaluate.tasks.examples import ExamplesError
from tests.evaluate.datasets.native import write_mimic
from tests.evaluate.datasets.people import mimic_rows

CLS, REG = TASKS["mimic_lvef/lvef-cls"], TASKS["mimic_lvef/lvef-reg"]


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "mimic-iv-ecg"
    write_mimic(root, mimic_rows())
    return root


def test_reference_splits_by_order_and_tears_patients(native):
    examples = CLS.examples(str(native.parent), "reference", "II")
    table = examples.table
    assert len(table) == 59 and "1 examples left out" in examples.notes[1]
    # The splits were made before the row without a label went.
    assert table["split"].value_counts().to_dict() == {"train": 47, "validation": 6, "test": 6}
    torn = (table.groupby("patient")["split"].nunique() > 1).sum()
    assert torn > 5 and examples.notes[2].startswith(f"{torn} patients are in more than one split")
    assert REG.preparation("reference").missing == "zeros"
    assert REG.preparation("reference").band_hz is None


def test_clean_keeps_patients_together(native):
    for task in (CLS, REG):
        examples = task.examples(str(native), "clean", "aVL")
        assert (examples.table.groupby("patient")["split"].nunique() == 1).all()
        assert set(examples.table["split"]) == {"train", "validation", "test"}
    lvef = examples.table.set_index("example")["LVEF"]
    label = CLS.examples(str(native), "clean", "II").table.set_index("example")["LVEF label"]
    assert (label == (lvef <= 40)).all()
    below, above = lvef[lvef <= 40].max(), lvef[lvef > 40].min()
    assert examples.notes[0] == (
        f"The binary label is 1 up to an LVEF of {below:g} % and 0 from {above:g} % on."
    )
    header = open_recording(f"{examples.root}/{examples.table['file'].iloc[0]}").header
    assert header.leads[4:6] == ("aVF", "aVL") and header.samples == 5000


def test_thresholds_of_either_direction_or_none():
    def table(lvef, label):
        return pd.DataFrame({"lvef": lvef, "label": label})

    said = mimic_lvef.threshold_note(table([30, 40, 50, 60], [0, 0, 1, 1]))
    assert said == "The binary label is 0 up to an LVEF of 40 % and 1 from 50 % on."
    assert "No threshold" in mimic_lvef.threshold_note(table([30, 60, 50, 40], [0, 0, 1, 1]))
    assert "one value only" in mimic_lvef.threshold_note(table([30, 60], [1, 1]))


def test_wrong_columns_and_a_partial_download_are_told(native, tmp_path):
    table = pd.read_csv(native / "LVEF.csv")
    path = tmp_path / "LVEF.csv"
    table[[*table.columns[1:], "subject_id"]].to_csv(path, index=False)
    with pytest.raises(DatasetError, match="'ecg_time', row 1: found '2150-01-01'"):
        mimic_lvef.read_labels(str(path))
    table[[*table.columns[:3], "label", "LVEF"]].to_csv(path, index=False)
    with pytest.raises(DatasetError, match="expected LVEF in percent"):
        mimic_lvef.read_labels(str(path))
    table.to_csv(path, index=False)
    (tmp_path / "files").mkdir()
    (tmp_path / "record_list.csv").write_text("")
    with pytest.raises(DatasetError, match="60 of 60 recordings are not in"):
        REG.examples(str(tmp_path), "clean", "II")
    table["label"] = np.nan
    for name in native.iterdir():
        if name.name != "LVEF.csv" and not (tmp_path / name.name).exists():
            (tmp_path / name.name).symlink_to(name)
    (tmp_path / "files").rmdir()
    (tmp_path / "files").symlink_to(native / "files")
    table.to_csv(path, index=False)
    with pytest.raises(ExamplesError, match="no row has a label of mimic_lvef/lvef-cls"):
        CLS.examples(str(tmp_path), "clean", "II")


def test_two_rows_of_one_record_are_two_examples(tmp_path):
    rows = [(10_000_000 + at // 2, 40_000_000 + at // 2, 30 + 10 * (at % 4), at % 2)
            for at in range(60)]  # fmt: skip
    write_mimic(tmp_path, rows)
    table = CLS.examples(str(tmp_path), "clean", "II").table
    assert table["example"].tolist()[:2] == ["40000000", "40000000#2"]
