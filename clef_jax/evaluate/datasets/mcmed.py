"""MC-MED: triage, disposition and blood pressure of emergency visits, from the monitor's lead II.

The ECG is the first of a visit and not aligned in time with the triage measurement.
"""

import os

import numpy as np
import pandas as pd

from clef_jax.data.recordings.demographics import parse_age, parse_sex
from clef_jax.evaluate.datasets.folders import (
    MOST_ABSENT,
    DatasetError,
    recording_exists,
    require_needs,
)
from clef_jax.evaluate.datasets.mcmed_labels import CLASSES, LIMITS_MMHG, read_label
from clef_jax.evaluate.tasks.examples import (
    CLASS,
    SPLITS,
    Examples,
    ExamplesError,
    first_few,
    joined,
    require_disjoint,
    require_testable_classes,
)
from clef_jax.evaluate.tasks.task import Task, TaskInfo
from clef_jax.evaluate.windows.preparation import Preparation
from clef_jax.tables.columns import TableError
from clef_jax.tables.files import read_table

SPLIT_TABLES = ("split_chrono_train.csv", "split_chrono_val.csv", "split_chrono_test.csv")
_VISITS = "visits.csv or variables_encounter_all.csv"
NEEDS = (SPLIT_TABLES[0], "waveforms", *SPLIT_TABLES[1:], _VISITS)
_IDS = ("CSN", "visit_id")


def reference_preparation() -> Preparation:
    """Returns what the original does to a record: band-pass, z-score.

    Q10: of a record shorter than 10 s its reader fails and gives zeros alone, under the true label.
    """
    return Preparation(short="all zeros")


def _visits(path: str) -> pd.DataFrame:
    """Returns the table of visits, by their number as text."""
    table = read_table(path)
    known = [name for name in _IDS if name in table.columns]
    if not known:
        raise TableError(f"{path}: no column {' or '.join(_IDS)}; found {', '.join(table.columns)}")
    visits = table.assign(visit=_numbers(table[known[0]]))
    return visits.dropna(subset="visit").drop_duplicates("visit")


def _numbers(values: pd.Series) -> pd.Series:
    return values.str.strip().str.removesuffix(".0")


def _splits(paths: dict[str, str]) -> pd.DataFrame:
    """Returns visit and split, of tables without header whose first column is the visit."""
    parts = []
    for name, split in zip(SPLIT_TABLES, SPLITS, strict=True):
        table = read_table(paths[name], header=False)
        parts.append(pd.DataFrame({"visit": _numbers(table["0"]), "split": split}))
    return pd.concat(parts, ignore_index=True).dropna(subset="visit")


def _files(visits: pd.Series) -> pd.Series:
    """Returns the first segment of lead II of each visit."""
    return "waveforms/" + visits.str[-3:] + "/" + visits + "/II/" + visits + "_1"


def _with_ecg(info: TaskInfo, folder: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Keeps the visits whose first segment is on the disk.

    Raises:
        DatasetError: The table counts segments, and more than a few of those are not there.
    """
    there = np.array([recording_exists(os.path.join(folder, file)) for file in rows["file"]], bool)
    if "II_n_segments" in rows.columns:
        listed = (pd.to_numeric(rows["II_n_segments"], errors="coerce") > 0).to_numpy()
        absent = listed & ~there
        if absent.sum() > MOST_ABSENT * listed.sum():
            raise DatasetError(
                f"{folder}: {absent.sum():,} of {listed.sum():,} recordings are missing, such as "
                f"{first_few(rows['file'][absent])}; the download is not whole: {info.how_to_get}"
            )
        there &= listed
    if not there.any():
        raise DatasetError(
            f"{folder}: none of {len(rows):,} visits has its recording, such as "
            f"{first_few(rows['file'])}; {info.how_to_get}"
        )
    return rows[there].reset_index(drop=True)


def _people(rows: pd.DataFrame) -> dict[str, object]:
    """Returns the patient, who is unknown in the original's table, and age and sex if known."""
    known = _numbers(rows["MRN"]) if "MRN" in rows.columns else rows["visit"]
    found: dict[str, object] = {"patient": known.fillna(rows["visit"])}
    if "Age" in rows.columns:
        found["age"] = rows["Age"].fillna("").map(parse_age).astype("float64")
    if "Gender" in rows.columns:
        found["sex"] = rows["Gender"].fillna("").map(parse_sex)
    return found


def _later_split_only(table: pd.DataFrame) -> np.ndarray:
    """Tells which rows stay where a patient is in one split: the last in time that he is in."""
    rank = table["split"].map(SPLITS.index)
    return (rank == rank.groupby(table["patient"]).transform("max")).to_numpy()


def _examples(info: TaskInfo, root: str, preset: str, lead: str) -> Examples:
    """Makes the examples: visits with the label and an ECG, in the official chronological split.

    `clean` keeps of a patient of several splits the visits in the latest; a disposition of no class
    is unknown instead of a discharge (Q11), rehabilitation and psychiatry are told before transfer,
    and impossible pressures are unknown.
    """
    paths = require_needs(info, root, NEEDS)
    folder = os.path.dirname(paths["waveforms"])
    visits = _visits(paths[_VISITS])
    task = info.name.split("/")[1]
    values = read_label(visits, task, preset, paths[_VISITS])
    visits = visits.assign(value=values, file=_files(visits["visit"]))
    rows = _splits(paths).merge(visits, on="visit").dropna(subset="value")
    if rows.empty:
        raise ExamplesError(f"{paths[_VISITS]}: no visit of the splits has a label of {task}")
    rows = _with_ecg(info, folder, rows)
    label = CLASS if info.kind == "multiclass" else info.classes[0]
    columns = {"example": rows["visit"], "split": rows["split"], "file": rows["file"]}
    columns |= _people(rows)
    columns |= {"lead": "II", "start_s": 0.0, "window_s": 10.0, label: rows["value"]}
    table = joined(columns, len(rows))
    notes: tuple[str, ...] = ()
    if preset == "clean":
        stays = _later_split_only(table)
        table = table[stays].reset_index(drop=True)
        if not stays.all():
            notes = (f"{(~stays).sum():,} visits left out: their patients come again in a later "
                     "split.",)  # fmt: skip
    examples = Examples(table, folder, (label,), notes)
    if preset == "reference":
        return examples
    require_disjoint(examples)
    if info.kind == "regression":
        return examples
    return require_testable_classes(examples, info.classes)


_SHARED = (
    "The official chronological split; 5,000 samples of the first segment, zeros where the record "
    "is shorter, which makes it zeros altogether (Q10). "
)
_ORIGINAL = {
    "ed-dispo": "Any other disposition counts as discharge (Q11).",
    "dc-dispo": "By substrings, the first that fits: psychiatry that mentions a planned "
    "readmission is a transfer.",
    "acuity": "The number before the hyphen.",
    "sbp": "Triage value, scaled by train; no check of its range.",
    "dbp": "Triage value, scaled by train; no check of its range.",
}


def _task(name: str) -> Task:
    info = TaskInfo(
        name=f"mcmed/{name}",
        kind="regression" if name in LIMITS_MMHG else "multiclass",
        classes=CLASSES[name],
        unit="mmHg" if name in LIMITS_MMHG else "",
        source="MC-MED 1.0.0, PhysioNet",
        licence="PhysioNet Credentialed Health Data License (see the dataset's page)",
        download="757 GB",
        how_to_get="credentials and training as https://physionet.org/content/mc-med/1.0.0/ says, "
        "then wget -r -N -c -np --user USER --ask-password "
        "https://physionet.org/files/mc-med/1.0.0/ ; lead II of waveforms, visits.csv and the "
        "split_chrono tables suffice; they must lie in one folder",
        citation="Kansal et al., Multimodal Clinical Monitoring in the Emergency Department "
        "(MC-MED), PhysioNet (2025), doi:10.13026/jz99-4j81",
        access="credentialed",
        original=_SHARED + _ORIGINAL[name],
        leads=("II",),
    )
    return Task(info, NEEDS, _examples, reference_preparation())


TASKS = tuple(map(_task, CLASSES))
