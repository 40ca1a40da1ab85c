"""Aurora-BP: a person's baseline blood pressure, from 10 s of ECG (lead I) in rest."""

import os

import numpy as np
import pandas as pd

from clef_jax.data.recordings.demographics import parse_age, parse_sex
from clef_jax.data.recordings.recording import Hints
from clef_jax.evaluate.datasets.folders import DatasetError, recording_exists, require_needs
from clef_jax.evaluate.datasets.splits import split_patients, strata_of
from clef_jax.evaluate.tasks.examples import Examples, joined, require_disjoint
from clef_jax.evaluate.tasks.task import Task, TaskInfo
from clef_jax.evaluate.windows.preparation import Preparation
from clef_jax.tables.columns import TableError
from clef_jax.tables.files import read_table

NEEDS = ("measurements_auscultatory", "participants.tsv", "features.tsv")
_FS = 500.0
_COLUMNS = {"sbp": "baseline_sbp", "dbp": "baseline_dbp"}
_REFERENCE_SEED = 42


def reference_preparation() -> Preparation:
    """Returns what the original does to a recording: no filter, zeros after a short one, z-score.

    Q14: the 10 s are cropped at random on every access, in validation and test as well; here the
    crop follows from the seed and the example.
    """
    return Preparation(band_hz=None, missing="drop", window="random", short="zeros before")


def _file(pid: str) -> str:
    return f"measurements_auscultatory/{pid}/{pid}.initial.Calibration_start_1.tsv"


def _rows(paths: dict[str, str], folder: str) -> pd.DataFrame:
    """Returns the feature rows of the participants who have both pressures and the recording."""
    tables = [read_table(paths[name]) for name in ("participants.tsv", "features.tsv")]
    for name, table in zip(("participants.tsv", "features.tsv"), tables, strict=True):
        wanted = ("pid",) if name == "participants.tsv" else ("pid", *_COLUMNS.values())
        if absent := [column for column in wanted if column not in table.columns]:
            raise TableError(
                f"{paths[name]}: no column {', '.join(absent)}; found {', '.join(table.columns)}"
            )
    rows = tables[0].merge(tables[1], on="pid", suffixes=("", " of features"))
    for column in _COLUMNS.values():
        numbers = pd.to_numeric(rows[column], errors="coerce")
        rows[column] = numbers.where(np.isfinite(numbers.astype("float64")))
    rows = rows.dropna(subset=list(_COLUMNS.values()))
    there = {p for p in rows["pid"].unique() if recording_exists(os.path.join(folder, _file(p)))}
    if not there:
        raise DatasetError(
            f"{folder}: none of {rows['pid'].nunique():,} participants with baseline pressures has "
            f"a recording such as {_file('a000')}; {_HOW_TO_GET}"
        )
    return rows[rows["pid"].isin(there)].reset_index(drop=True)


def reference_splits(pids: np.ndarray) -> np.ndarray:
    """Splits distinct participants 70 / 15 / 15 % as scikit-learn's splitter does, seed 42 twice.

    Returns:
        object `[pids]`, the split of each.
    """
    split = np.full(len(pids), "train", object)
    held_out = _drawn(len(pids), 0.3)
    split[held_out] = "validation"
    split[held_out[_drawn(len(held_out), 0.5)]] = "test"
    return split


def _drawn(count: int, share: float) -> np.ndarray:
    """Returns the places that `train_test_split`, random_state 42, gives to test."""
    order = np.random.RandomState(_REFERENCE_SEED).permutation(count)
    return order[: int(np.ceil(share * count))]


def _examples(info: TaskInfo, root: str, preset: str, lead: str) -> Examples:
    """Makes the examples, all of the one ECG; `lead` does not matter.

    `reference` repeats a participant's one recording for each of his feature rows, in all splits
    (Q12). `clean` has one row a participant, stratified by pressure.
    """
    paths = require_needs(info, root, NEEDS)
    folder = os.path.dirname(paths[NEEDS[0]])
    rows = _rows(paths, folder)
    label = _COLUMNS[info.name.split("/")[1]]
    pids = rows["pid"].unique()
    if preset == "reference":
        split_of = dict(zip(pids, reference_splits(pids), strict=True))
        number = rows.groupby("pid").cumcount() + 1
        example = rows["pid"] + "#" + number.astype(str)
        rows = rows.assign(split=rows["pid"].map(split_of), example=example)
        note = f"{len(rows):,} rows of {len(pids):,} participants with a recording each (Q12)."
    else:
        note = _differing(rows, label)
        rows = rows.drop_duplicates("pid").reset_index(drop=True)
        strata = strata_of(rows[[label]], "regression")
        rows = rows.assign(split=split_patients(rows["pid"], strata), example=rows["pid"])
    columns = {name: rows[name] for name in ("example", "split")}
    columns |= {
        "patient": rows["pid"],
        "file": rows["pid"].map(_file),
        "lead": "ekg",
        "start_s": 0.0,
        "window_s": 10.0,
        info.classes[0]: rows[label],
    }
    if "age" in rows.columns:
        columns["age"] = rows["age"].fillna("").map(parse_age).astype("float64")
    if "gender" in rows.columns:
        columns["sex"] = rows["gender"].fillna("").map(parse_sex)
    examples = Examples(
        joined(columns, len(rows)), folder, info.classes, (note,), hints=Hints(fs=_FS, units="mV")
    )
    require_disjoint(examples)
    return examples


def _differing(rows: pd.DataFrame, label: str) -> str:
    """Says of how many participants the feature rows differ in a pressure; the first counts."""
    differing = int((rows.groupby("pid")[label].nunique() > 1).sum())
    return (
        f"One row a participant; {differing:,} have rows that differ in {label}: the first counts."
    )


_HOW_TO_GET = (
    "apply by the form that https://github.com/microsoft/aurorabp-sample-data describes "
    "(aurorabp@microsoft.com); its folder `sample` shows the layout and holds a few participants"
)


def _task(name: str, label: str) -> Task:
    info = TaskInfo(
        name=f"aurorabp/{name}",
        kind="regression",
        classes=(label,),
        unit="mmHg",
        source="Aurora-BP, auscultatory protocol, Microsoft",
        licence="a data use agreement",
        download="21 GB",
        how_to_get=_HOW_TO_GET,
        citation="Mieloszyk et al., A comparison of wearable tonometry, photoplethysmography, and "
        "electrocardiography for cuffless measurement of blood pressure in an ambulatory setting, "
        "IEEE J Biomed Health Inform (2022)",
        access="on request",
        original="A participant's one recording counts once for each of his feature rows (Q12). "
        "Training is not shuffled (Q13). Random crops in validation and test too (Q14). No filter.",
        leads=("ekg",),
    )
    return Task(info, NEEDS, _examples, reference_preparation())


TASKS = (_task("sbp", "systolic pressure"), _task("dbp", "diastolic pressure"))
