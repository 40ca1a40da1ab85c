"""MC-MED: what its texts mean, and which visits count."""

import pandas as pd
import pytest

from clef_jax.data.recordings import open_recording
from clef_jax.evaluate.datasets import mcmed, mcmed_labels
from clef_jax.evaluate.datasets.folders import DatasetError
from clef_jax.evaluate.datasets.suite import TASKS
from clef_jax.tables.columns import TableError
from tests.evaluate.datasets.native import write_mcmed
from tests.evaluate.datasets.people import DISCHARGES, MCMED_SPLITS, mcmed_visits


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "mc-med"
    write_mcmed(root, mcmed_visits(), MCMED_SPLITS)
    return root


@pytest.fixture(scope="module")
def derived(tmp_path_factory):
    root = tmp_path_factory.mktemp("derived")
    write_mcmed(root, mcmed_visits(), MCMED_SPLITS, official=False)
    return root


@pytest.mark.parametrize("text", DISCHARGES)
def test_discharge_texts_in_their_order(text):
    found = [mcmed_labels.discharge_class(text, preset) for preset in ("reference", "clean")]
    assert tuple(found) == DISCHARGES[text]


def test_reference_counts_any_other_disposition_as_discharge(derived):
    examples = TASKS["mcmed/ed-dispo"].examples(str(derived), "reference", "I")
    rows = examples.table.set_index("example")
    assert len(rows) == 58 and "98000001" not in rows.index and "98000003" not in rows.index
    assert rows.loc["98000004", "class"] == 0  # Q11: eloped
    assert rows["class"].value_counts().to_dict() == {0: 12 + 12, 1: 11, 2: 12, 3: 11}
    assert (rows["patient"] == rows.index).all() and rows["lead"].eq("II").all()
    assert "age" not in rows
    assert TASKS["mcmed/dbp"].preparation("reference").short == "all zeros"


def test_clean_knows_patients_and_leaves_out_what_is_unknown(official):
    examples = TASKS["mcmed/ed-dispo"].examples(str(official.parent), "clean", "II")
    rows = examples.table.set_index("example")
    assert "98000004" not in rows.index and "98000009" not in rows.index
    # Visits 30 and 31, and 44 and 45, are of one patient each, in two splits.
    assert "98000030" not in rows.index and rows.loc["98000031", "split"] == "validation"
    assert "left out: their patients come again in a later split" in examples.notes[0]
    assert (rows.groupby("patient")["split"].nunique() == 1).all()
    assert rows.loc["98000002", ["age", "sex"]].tolist() == [32, "female"]
    header = open_recording(f"{examples.root}/{rows['file'].iloc[0]}").header
    assert header.leads == ("II",) and rows["file"].iloc[0].startswith("waveforms/000/98000000/II/")


def test_pressures_and_acuity(official, derived):
    reference = TASKS["mcmed/sbp"].examples(str(derived), "reference", "II").table
    clean = TASKS["mcmed/sbp"].examples(str(official), "clean", "II").table
    assert reference["systolic pressure"].max() == 999 and clean["systolic pressure"].max() < 180
    assert "98000001" not in set(reference["example"])
    acuity = TASKS["mcmed/acuity"].examples(str(derived), "clean", "II")
    numbers = acuity.table["example"].astype(int) - 98_000_000
    assert (acuity.table["class"] == numbers % 5).all()


def test_all_tasks_of_both_presets(official):
    for name in mcmed_labels.CLASSES:
        for preset in ("clean", "reference"):
            examples = TASKS[f"mcmed/{name}"].examples(str(official), preset, "II")
            assert set(examples.table["split"]) == {"train", "validation", "test"}


def test_what_is_missing_is_told(official, derived, tmp_path):
    table = pd.read_csv(derived / "variables_encounter_all.csv")
    for name in mcmed.SPLIT_TABLES:
        (tmp_path / name).write_text((derived / name).read_text())
    (tmp_path / "waveforms").mkdir()
    table.to_csv(tmp_path / "variables_encounter_all.csv", index=False)
    with pytest.raises(DatasetError, match="57 of 57 recordings are missing.*credentials"):
        TASKS["mcmed/sbp"].examples(str(tmp_path), "clean", "II")
    table.drop(columns="II_n_segments").to_csv(
        tmp_path / "variables_encounter_all.csv", index=False
    )
    with pytest.raises(DatasetError, match="none of 58 visits has its recording"):
        TASKS["mcmed/sbp"].examples(str(tmp_path), "clean", "II")
    table.drop(columns="DC_dispo").to_csv(tmp_path / "variables_encounter_all.csv", index=False)
    with pytest.raises(TableError, match="no column DC_dispo"):
        TASKS["mcmed/dc-dispo"].examples(str(tmp_path), "clean", "II")
    table.assign(Triage_acuity="urgent").to_csv(
        tmp_path / "variables_encounter_all.csv", index=False
    )
    with pytest.raises(TableError, match="Triage_acuity: no value is understood, such as 'urgent'"):
        TASKS["mcmed/acuity"].examples(str(tmp_path), "clean", "II")
