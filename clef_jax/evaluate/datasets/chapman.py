"""Chapman-Shaoxing-Ningbo: 38 labels of one record a patient, in the published three tables.

Q15: the tables' label columns were made by searching for a label's letters anywhere in the column
`diagnose`, so that every AFIB counts as AF and every STE as ST. `reference` takes the columns as
they are; `clean` makes the labels of the statements between commas, and says where both differ.
The tables' column `age` is 12 in every row, so that no age is known.
"""

import os

import numpy as np
import pandas as pd

from clef_jax.data.signals.leads import STANDARD_LEADS
from clef_jax.evaluate.datasets.folders import require_files, require_needs
from clef_jax.evaluate.tasks.examples import (
    SPLITS,
    Examples,
    joined,
    require_disjoint,
    without_untestable,
)
from clef_jax.evaluate.tasks.task import Task, TaskInfo, choose_lead
from clef_jax.evaluate.windows.preparation import Preparation
from clef_jax.tables.columns import TableError
from clef_jax.tables.files import read_table

TABLES = ("chapman_train.csv", "chapman_val.csv", "chapman_test.csv")
NEEDS = ("WFDBRecords", *TABLES)
LABELS = (
    *("AQW", "UW", "SR", "WPW", "2AVB", "AT", "VB", "ARS", "STTC", "SA", "STE", "VPB", "TWO"),
    *("STTU", "ALS", "APB", "2AVB1", "PRIE", "CCR", "CR", "AF", "AVB", "QTIE", "LBBB", "VEB"),
    *("SVT", "RBBB", "1AVB", "STDD", "MI", "AFIB", "TWC", "PWC", "ERV", "RVH", "LVH", "ST", "JEB"),
)
_PREFIX = "/chapman/"


def reference_preparation() -> Preparation:
    """Returns what the original does to a record.

    The lowest and highest value of all 12 leads become -3 and 3, then the band-pass, then each
    record is scaled. A flat record divides by zero there (no number in the list of quirks).
    """
    return Preparation(minmax_record=True)


def read_tables(paths: dict[str, str]) -> pd.DataFrame:
    """Returns the three published tables one below the other, with a column split.

    Args:
        paths: Where each of `TABLES` is.

    Returns:
        ecg_path, diagnose and split as text, the 38 labels as float64.

    Raises:
        TableError: A column is missing, or a label is neither 0 nor 1.
    """
    parts = []
    for name, split in zip(TABLES, SPLITS, strict=True):
        table = read_table(paths[name])
        if absent := [c for c in ("ecg_path", "diagnose", *LABELS) if c not in table.columns]:
            raise TableError(f"{paths[name]}: no column {', '.join(absent)}; download it again")
        cells = table[list(LABELS)].to_numpy(object, na_value="")
        if (wrong := (cells != "0") & (cells != "1")).any():
            raise TableError(
                f"{paths[name]}: column {LABELS[wrong.any(axis=0).argmax()]} holds other than 0 "
                "and 1; download it again"
            )
        labels = pd.DataFrame((cells == "1").astype(np.float64), columns=list(LABELS))
        texts = table[["ecg_path", "diagnose"]].assign(split=split)
        parts.append(pd.concat([texts, labels], axis=1))
    return pd.concat(parts, ignore_index=True)


def stated(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the 38 labels of the statements that `diagnose` lists between commas, float64."""
    # Few combinations of statements, each of many rows.
    row_of, combinations = pd.factorize(table["diagnose"].fillna(""))
    statements = [{word.strip() for word in text.split(",")} for text in combinations]
    found = np.array([[label in words for label in LABELS] for words in statements], np.float64)
    return pd.DataFrame(found[row_of], index=table.index, columns=list(LABELS))


def wrong_columns(root: str) -> dict[str, tuple[int, int]]:
    """Counts, for each label that the tables have otherwise than `diagnose`, both (Q15).

    Args:
        root: Folder of the three tables, or one that holds it; no recording is needed.

    Returns:
        label -> (rows of the tables' column, rows that carry the statement).
    """
    table = read_tables(require_needs(INFO, root, TABLES, TABLES))
    return _differences(table, stated(table))


def _differences(table: pd.DataFrame, labels: pd.DataFrame) -> dict[str, tuple[int, int]]:
    return {
        label: (int(table[label].sum()), int(labels[label].sum()))
        for label in LABELS
        if (table[label] != labels[label]).any()
    }


def _examples(info: TaskInfo, root: str, preset: str, lead: str) -> Examples:
    """Makes the examples: every row of the published tables.

    `reference` takes the tables' columns (Q15), also where no test row is positive (Q3).
    """
    paths = require_needs(info, root, NEEDS, TABLES)
    folder = os.path.dirname(paths[NEEDS[0]])
    table = read_tables(paths)
    labels = table[list(LABELS)] if preset == "reference" else stated(table)
    files = table["ecg_path"].str.removeprefix(_PREFIX).str.removesuffix(".mat")
    names = files.str.rsplit("/", n=1).str[-1]
    columns = {
        "example": names,
        "patient": names,
        "split": table["split"],
        "file": files,
        "lead": choose_lead(info, lead),
        "start_s": 0.0,
        "window_s": 10.0,
    }
    examples = Examples(
        joined(columns | {name: labels[name] for name in LABELS}, len(table)), folder, LABELS
    )
    require_files(info.name, folder, list(files), info.how_to_get)
    require_disjoint(examples)
    if preset == "reference":
        return examples
    counts = ", ".join(
        f"{label} {columns:,} / {found:,}"
        for label, (columns, found) in _differences(table, labels).items()
    )
    note = f"Labels are statements of `diagnose`; columns of the tables / statements: {counts}."
    return without_untestable(examples.noting(note))


INFO = TaskInfo(
    name="chapman",
    kind="multilabel",
    classes=LABELS,
    source="Chapman-Shaoxing-Ningbo (ecg-arrhythmia 1.0.0, PhysioNet), tables of MERL",
    licence="CC BY 4.0; the tables MIT",
    download="5.4 GB",
    how_to_get="wget -r -N -c -np https://physionet.org/files/ecg-arrhythmia/1.0.0/ ; and the "
    "three tables chapman_{train,val,test}.csv from finetune/data_split/chapman of "
    "https://github.com/cheliu-computation/MERL-ICML2024, into the same folder or one beside it",
    citation="Zheng et al., A 12-lead electrocardiogram database for arrhythmia research, "
    "Scientific Data 7:48 (2020), doi:10.1038/s41597-020-0386-x; Liu et al., Zero-shot ECG "
    "classification with multimodal learning, ICML 2024",
    access="open",
    original="Lead II, all leads of a record brought to [-3, 3] together, band-pass, z-score. "
    "Label columns made by substring search: AF, ST, SA, VB, AVB, CR, 2AVB are wrong (Q15). Macro "
    "AUROC over 38 labels, one of them with a single positive in test (Q3, Q4).",
    leads=STANDARD_LEADS,
)
TASKS = (Task(INFO, NEEDS, _examples, reference_preparation(), apart=TABLES),)
