"""PTB-XL 1.0.3: five tasks of several labels, from the statements that cardiologists made.

The published folds 1-8 are train, 9 validation, 10 test; no patient is in two. A statement counts
whatever its likelihood, 0 ("not stated") included, as in the original and in the literature.
"""

import ast
import os

import numpy as np
import pandas as pd

from clef_jax.data.signals.leads import STANDARD_LEADS
from clef_jax.evaluate.datasets.folders import DatasetError, require_files, require_needs
from clef_jax.evaluate.tasks.examples import (
    Examples,
    clipped,
    joined,
    require_disjoint,
    without_untestable,
)
from clef_jax.evaluate.tasks.task import Task, TaskInfo, choose_lead
from clef_jax.evaluate.windows.preparation import Preparation
from clef_jax.tables.columns import TableError
from clef_jax.tables.files import read_table
from clef_jax.tables.matching import identifiers

NEEDS = ("ptbxl_database.csv", "scp_statements.csv", "records500")
# Ages above 89 are published as 300, so that nobody can be told by them.
_OVER_89, _AS_AGE = 300.0, 90.0

# The classes of each task: those of `scp_statements.csv`, which tests compare.
CLASSES = {
    "diagnostic": "1AVB 2AVB 3AVB ALMI AMI ANEUR ASMI CLBBB CRBBB DIG EL ILBBB ILMI IMI INJAL "
    "INJAS INJIL INJIN INJLA IPLMI IPMI IRBBB ISCAL ISCAN ISCAS ISCIL ISCIN ISCLA ISC_ IVCD LAFB "
    "LAO/LAE LMI LNGQT LPFB LVH NDT NORM NST_ PMI RAO/RAE RVH SEHYP WPW",
    "subdiagnostic": "AMI CLBBB CRBBB ILBBB IMI IRBBB ISCA ISCI ISC_ IVCD LAFB/LPFB LAO/LAE LMI "
    "LVH NORM NST_ PMI RAO/RAE RVH SEHYP STTC WPW _AVB",
    "superdiagnostic": "CD HYP MI NORM STTC",
    "form": "ABQRS DIG HVOLT INVT LNGQT LOWT LPR LVOLT NDT NST_ NT_ PAC PRC(S) PVC QWAVE STD_ STE_ "
    "TAB_ VCLVH",
    "rhythm": "AFIB AFLT BIGU PACE PSVT SARRH SBRAD SR STACH SVARR SVTAC TRIGU",
}
# Which statements a task is about, and what column names their class; None for the code itself.
_COLUMNS = {
    "diagnostic": ("diagnostic", None),
    "subdiagnostic": ("diagnostic", "diagnostic_subclass"),
    "superdiagnostic": ("diagnostic", "diagnostic_class"),
    "form": ("form", None),
    "rhythm": ("rhythm", None),
}


def reference_preparation() -> Preparation:
    """Returns what the original does to a record.

    Q1: the files are of 500 Hz but resampled as if of 100 Hz, so that the first 2 s of a record are
    stretched five-fold. One mean and one standard deviation over all training records of the lead
    scale every record; no band-pass.
    """
    return Preparation(assumed_fs=100.0, resampling="fourier", band_hz=None, scale="train")


def class_of_statements(folder: str, task: str) -> dict[str, str]:
    """Returns the class of each statement that a task is about, from `scp_statements.csv`."""
    path = os.path.join(folder, "scp_statements.csv")
    statements = read_table(path)
    code = statements.columns[0]
    chosen, named = _COLUMNS[task]
    if absent := [c for c in (chosen, named) if c and c not in statements.columns]:
        raise TableError(f"{path}: no column {', '.join(absent)}; download it again")
    rows = statements[pd.to_numeric(statements[chosen], errors="coerce") == 1]
    names = rows[named or code]
    return {c: n for c, n in zip(rows[code], names, strict=True) if not pd.isna(n)}


def read_database(folder: str) -> pd.DataFrame:
    """Returns `ptbxl_database.csv` with numbers as such, and statements as a column of tuples.

    Raises:
        TableError: A column is missing, or statements are no dictionary.
    """
    path = os.path.join(folder, "ptbxl_database.csv")
    table = read_table(path)
    wanted = ("ecg_id", "patient_id", "age", "sex", "scp_codes", "strat_fold", "filename_hr")
    if absent := [name for name in wanted if name not in table.columns]:
        raise TableError(f"{path}: no column {', '.join(absent)}; download it again")
    table["patient"] = identifiers(table["patient_id"])
    for name in ("patient_id", "age", "sex", "strat_fold"):
        table[name] = pd.to_numeric(table[name], errors="coerce")
    if (wrong := ~table["strat_fold"].isin(range(1, 11))).any():
        raise TableError(
            f"{path}: column strat_fold: row {int(wrong.argmax()) + 1} is in none of the folds 1 "
            "to 10; download it again"
        )
    table["statements"] = [_statements(path, text) for text in table["scp_codes"]]
    return table


def _statements(path: str, text: str) -> tuple[str, ...]:
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(code, str) for code in found):
        raise TableError(
            f"{path}: column scp_codes: found {clipped(repr(text))}, expected a dictionary such as "
            "{'NORM': 100.0}; download it again"
        )
    return tuple(found)


def people(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Returns patient, age, sex and site of the rows of the database."""
    age = table["age"].to_numpy(np.float64)
    patient = table["patient"].fillna("unknown " + table["ecg_id"].astype(str))
    site = table["site"] if "site" in table.columns else pd.Series(pd.NA, index=table.index)
    return {
        "patient": patient.to_numpy(object),
        "age": np.where(age == _OVER_89, _AS_AGE, np.where((age >= 0) & (age <= 120), age, np.nan)),
        "sex": table["sex"].map({0: "male", 1: "female"}).to_numpy(object),
        "site": site.fillna("unknown").astype(str).str.removesuffix(".0").to_numpy(object),
    }


def folds(table: pd.DataFrame) -> np.ndarray:
    """Returns the split of each row by its fold: 9 is validation, 10 test."""
    fold = table["strat_fold"]
    return np.select([fold == 9, fold == 10], ["validation", "test"], "train").astype(object)


def _examples(info: TaskInfo, root: str, preset: str, lead: str) -> Examples:
    """Makes the examples: records with a statement of the task's kind, in the published folds.

    `reference` keeps every label that any record has, also those that no test record has (Q3).
    """
    paths = require_needs(info, root, NEEDS)
    folder = os.path.dirname(paths[NEEDS[0]])
    table = read_database(folder)
    task = info.name.split("/")[1]
    class_of = class_of_statements(folder, task)
    classes = [{class_of[s] for s in found if s in class_of} for found in table["statements"]]
    present = sorted(set().union(*classes))
    kept = np.array([bool(found) for found in classes], bool)
    if not kept.any():
        raise DatasetError(f"{folder}: no record has a statement of {info.name}")
    rows = table[kept].reset_index(drop=True)
    columns: dict[str, object] = {"example": rows["ecg_id"].to_numpy(object)} | people(rows)
    columns |= {
        "split": folds(rows),
        "file": rows["filename_hr"].to_numpy(object),
        "lead": choose_lead(info, lead),
        "start_s": 0.0,
        "window_s": 10.0,
    }
    of_rows = [found for found in classes if found]
    columns |= {name: [float(name in found) for found in of_rows] for name in present}
    note = f"{(~kept).sum():,} of {len(table):,} records have no {task} statement: left out."
    examples = Examples(joined(columns, len(rows)), folder, tuple(present), (note,))
    require_files(info.name, folder, list(rows["filename_hr"]), info.how_to_get)
    require_disjoint(examples)
    return examples if preset == "reference" else without_untestable(examples)


def _info(task: str) -> TaskInfo:
    return TaskInfo(
        name=f"ptbxl/{task}",
        kind="multilabel",
        classes=tuple(CLASSES[task].split()),
        source="PTB-XL 1.0.3, PhysioNet",
        licence="CC BY 4.0",
        download="3.2 GB",
        how_to_get="wget -r -N -c -np https://physionet.org/files/ptb-xl/1.0.3/",
        citation="Wagner et al., PTB-XL, a large publicly available electrocardiography dataset, "
        "Scientific Data 7:154 (2020), doi:10.1038/s41597-020-0495-6",
        access="open",
        original="Lead II of the 500 Hz files, resampled as if of 100 Hz: the first 2 s, stretched "
        "five-fold (Q1). One scale for all records; no band-pass. AdamW under a one-cycle "
        "schedule that steps once an epoch, so that its rate stays near 4e-4 (Q2). Macro AUROC, "
        "which fails where a label has no positive in test (Q3) and differs between training and "
        "results (Q4).",
        leads=STANDARD_LEADS,
    )


def _task(name: str) -> Task:
    info = _info(name)
    return Task(info, NEEDS, _examples, reference_preparation())


TASKS = tuple(map(_task, CLASSES))
