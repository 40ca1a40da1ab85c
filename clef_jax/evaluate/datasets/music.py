"""MUSIC: how patients with heart failure fared, from 24-hour Holter recordings."""

import os

import numpy as np
import pandas as pd

from clef_jax.data.recordings.demographics import parse_age
from clef_jax.data.recordings.recording import RecordingError
from clef_jax.data.recordings.wfdb_header import read_header
from clef_jax.evaluate.datasets.folders import DatasetError, recording_exists, require_needs
from clef_jax.evaluate.datasets.splits import split_patients
from clef_jax.evaluate.tasks.examples import (
    CLASS,
    Examples,
    ExamplesError,
    first_few,
    joined,
    require_disjoint,
    require_testable_classes,
)
from clef_jax.evaluate.tasks.task import Task, TaskInfo
from clef_jax.evaluate.windows.preparation import Preparation
from clef_jax.tables.columns import TableError, is_blank
from clef_jax.tables.files import read_table

NEEDS = ("Holter_ECG", "subject-info.csv or outcomes.csv")
CLASSES = ("survivor", "non-cardiac death", "sudden cardiac death", "pump-failure death")
# As the tables code them; 7 is a second code of pump failure, which the original's table lacks.
_CLASS_OF = {"0": 0, "1": 1, "3": 2, "6": 3, "7": 3}
# PhysioNet's table, and the one that the original made of it.
_COLUMNS = {
    "subject-info.csv": ("Patient ID", "Cause of death"),
    "outcomes.csv": ("subj_id", "outcome"),
}
_MISSING_HOLTERS = 56
_WINDOWS = 24
_WINDOW_S = 10.0


def reference_preparation() -> Preparation:
    """Returns what the original does to a window: Fourier resampling from 200 Hz, nothing else.

    The first 10 s are taken, or where a tenth of them is 0 or missing or they are flat, the next of
    ten tries, each moved by 25 s. Q8: where none is good the original fails; the first is taken.
    """
    return Preparation(resampling="fourier", band_hz=None, scale="none", window="first valid")


def _subjects(path: str) -> pd.DataFrame:
    """Returns patient, class, and age and sex where the table has them, in its order."""
    table = read_table(path)
    patient, outcome = _COLUMNS[os.path.basename(path)]
    if absent := [name for name in (patient, outcome) if name not in table.columns]:
        raise TableError(f"{path}: no column {', '.join(absent)}; found {', '.join(table.columns)}")
    words = table[outcome].str.strip().str.removesuffix(".0")
    if (strange := words.notna() & ~words.isin(list(_CLASS_OF))).any():
        raise TableError(
            f"{path}: column {outcome}: found {words[strange].iloc[0]!r} of "
            f"{table[patient][strange].iloc[0]}, expected {', '.join(_CLASS_OF)}"
        )
    if (blank := is_blank(table[patient])).any():
        raise TableError(f"{path}: column {patient} is empty in row {int(blank.argmax()) + 1}")
    found = pd.DataFrame({"patient": table[patient].str.strip(), CLASS: words.map(_CLASS_OF)})
    if "Age" in table.columns:
        ages = table["Age"].fillna("").str.strip(" >").map(parse_age)
        found["age"] = ages.astype("float64")
    if "Gender (male=1)" in table.columns:
        found["sex"] = table["Gender (male=1)"].str.strip().map({"1": "male", "0": "female"})
    return found.dropna(subset=CLASS).reset_index(drop=True)


def _with_holter(folder: str, subjects: pd.DataFrame) -> pd.DataFrame:
    there = np.array(
        [
            recording_exists(os.path.join(folder, "Holter_ECG", name))
            for name in subjects["patient"]
        ],
        bool,
    )
    if (~there).sum() > _MISSING_HOLTERS:
        raise DatasetError(
            f"{folder}: {(~there).sum():,} of {len(subjects):,} Holter recordings are missing, "
            f"such as {first_few(subjects['patient'][~there])}; {_MISSING_HOLTERS} were never "
            f"published, so the download is not whole: {INFO.how_to_get}"
        )
    return subjects[there].reset_index(drop=True)


def _reference_splits(count: int) -> list[str]:
    """Returns 70, 10, 20 % in the table's order, neither shuffled nor stratified (Q7)."""
    train, validation = int(0.7 * count), int(0.1 * count)
    return ["train"] * train + ["validation"] * validation + ["test"] * (count - train - validation)


def _hourly(folder: str, patients: pd.Series) -> tuple[list[list[float]], list[str]]:
    """Returns where the windows of each patient start, s, and who could not be read and why.

    They are in the middle of equal parts of the recording, an hour each of 24.
    """
    starts: list[list[float]] = []
    faults: list[str] = []
    for patient in patients:
        try:
            header = read_header(os.path.join(folder, "Holter_ECG", patient))
        except RecordingError as error:
            starts.append([])
            faults.append(str(error))
            continue
        part = header.samples / header.fs / _WINDOWS
        places = [part * (at + 0.5) - _WINDOW_S / 2 for at in range(_WINDOWS)]
        starts.append([round(place, 2) for place in places] if part >= _WINDOW_S else [0.0])
    return starts, faults


def _examples(info: TaskInfo, root: str, preset: str, lead: str) -> Examples:
    """Makes the examples, all of lead X.

    `reference`: one row a patient, in the table's order (Q7). `clean`: 24 windows a patient spread
    over the recording, one episode; disjoint patients, stratified by what became of them.
    """
    paths = require_needs(info, root, NEEDS)
    folder = os.path.dirname(paths[NEEDS[0]])
    subjects = _subjects(paths[NEEDS[1]])
    held = _with_holter(folder, subjects)
    notes = [f"{len(subjects) - len(held)} of {len(subjects)} subjects have no Holter recording."]
    if held.empty:
        raise ExamplesError(f"{folder}: no subject has a Holter recording; {info.how_to_get}")
    if preset == "reference":
        held = held.assign(split=_reference_splits(len(held)), start_s=0.0)
    else:
        strata = held[CLASS].to_numpy()[:, None] == np.arange(len(CLASSES))
        starts, faults = _hourly(folder, held["patient"])
        held = held.assign(split=split_patients(held["patient"], strata), start_s=starts)
        held = held.assign(episode=held["patient"]).explode("start_s").dropna(subset="start_s")
        notes += [f"Left out as unreadable: {'; '.join(faults)}."] if faults else []
    held = held.reset_index(drop=True)
    columns = {"example": held["patient"] + "@" + held["start_s"].astype(str)}
    columns |= {name: held[name] for name in held.columns}
    columns |= {"file": "Holter_ECG/" + held["patient"], "lead": "X", "window_s": _WINDOW_S}
    columns[CLASS] = held[CLASS].astype("float64")
    examples = Examples(joined(columns, len(held)), folder, (CLASS,), tuple(notes))
    require_disjoint(examples)
    return examples if preset == "reference" else require_testable_classes(examples, CLASSES)


INFO = TaskInfo(
    name="music",
    kind="multiclass",
    classes=CLASSES,
    source="MUSIC, Sudden Cardiac Death in Chronic Heart Failure 1.0.1, PhysioNet",
    licence="see the dataset's page",
    download="90 GB",
    how_to_get="wget -r -N -c -np "
    "https://physionet.org/files/music-sudden-cardiac-death/1.0.1/ (subject-info.csv and the "
    "folder Holter_ECG suffice)",
    citation="Martin-Yebra, Martínez, Laguna, MUSIC (Sudden Cardiac Death in Chronic Heart "
    "Failure), PhysioNet (2024), doi:10.13026/cec2-9w70",
    access="open",
    original="The first good 10 s of 24 h, lead X, in millivolts: no filter, no scaling. Split in "
    "the table's order, not stratified: two non-cardiac deaths in test (Q7). Recordings without a "
    "good stretch of ten cannot be batched (Q8). Training draws classes equally often.",
    leads=("X",),
)
TASKS = (Task(INFO, NEEDS, _examples, reference_preparation()),)
