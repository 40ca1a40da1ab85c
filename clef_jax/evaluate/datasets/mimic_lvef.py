"""MIMIC-IV-ECG with the LVEF labels of ECGFounder: ejection fraction, and the label made of it."""

import os
import re

import numpy as np
import pandas as pd

from clef_jax.data.signals.leads import STANDARD_LEADS
from clef_jax.evaluate.datasets.folders import DatasetError, require_files, require_needs
from clef_jax.evaluate.datasets.splits import split_patients, strata_of
from clef_jax.evaluate.tasks.examples import (
    Examples,
    ExamplesError,
    joined,
    require_disjoint,
    require_testable_classes,
    without_unlabelled,
)
from clef_jax.evaluate.tasks.task import Kind, Task, TaskInfo, choose_lead
from clef_jax.evaluate.windows.preparation import Preparation
from clef_jax.tables.files import read_table

NEEDS = ("record_list.csv", "files", "LVEF.csv")
_APART = ("LVEF.csv",)
_PATIENT = re.compile(r"/p(\d+)/s\d+/")


def reference_preparation() -> Preparation:
    """Returns what the original does to a record: missing samples become 0, z-score, no filter."""
    return Preparation(band_hz=None, missing="zeros")


def read_labels(path: str) -> pd.DataFrame:
    """Returns file, patient, lvef (percent) and label (0 or 1) of each row, in the file's order.

    The columns are known by their places: the second is the record's path, the last but one the
    ejection fraction, the last the binary label.

    Raises:
        DatasetError: The columns at these places hold something else.
    """
    table = read_table(path)
    if table.shape[1] < 4:
        raise DatasetError(
            f"{path}: {table.shape[1]} columns; expected at least 4: a number, the record's path, "
            "..., LVEF, the binary label"
        )
    files = table.iloc[:, 1].fillna("").str.strip().str.removesuffix(".hea")
    patient = files.str.extract(_PATIENT)[0]
    if (wrong := patient.isna()).any():
        raise DatasetError(
            f"{path}: column {table.columns[1]!r}, row {int(wrong.idxmax()) + 1}: found "
            f"{files[wrong].iloc[0]!r}, expected the path of a record such as "
            "files/p1000/p10000032/s40689238/40689238; take the file as ECGFounder publishes it"
        )
    numbers = table.iloc[:, -2:].apply(pd.to_numeric, errors="coerce")
    numbers.columns = ["lvef", "label"]
    if ((numbers["lvef"] < 0) | (numbers["lvef"] > 100)).any() or (
        ~numbers["label"].dropna().isin([0, 1])
    ).any():
        raise DatasetError(
            f"{path}: expected LVEF in percent in the last column but one "
            f"({table.columns[-2]!r}) and 0 or 1 in the last ({table.columns[-1]!r})"
        )
    return pd.DataFrame({"file": files, "patient": patient} | dict(numbers.items()))


def threshold_note(labels: pd.DataFrame) -> str:
    """Says by which threshold the binary label follows from the ejection fraction, as nobody does.

    Where the two overlap it says that there is none.
    """
    known = labels.dropna()
    ones, zeros = known["lvef"][known["label"] == 1], known["lvef"][known["label"] == 0]
    if ones.empty or zeros.empty:
        return "The binary label has one value only, so that no threshold can be read off."
    for low, high, what in ((ones, zeros, "1"), (zeros, ones, "0")):
        if low.max() < high.min():
            return (
                f"The binary label is {what} up to an LVEF of {low.max():g} % and "
                f"{'0' if what == '1' else '1'} from {high.min():g} % on."
            )
    return (
        f"No threshold on LVEF makes the binary label: its ones are {ones.min():g} to "
        f"{ones.max():g} %, its zeros {zeros.min():g} to {zeros.max():g} %."
    )


def _reference_splits(count: int) -> np.ndarray:
    """Returns the first 80 % train, the next 10 % validation, the last 10 % test."""
    train, validation = int(0.8 * count), int(0.1 * count)
    names = ["train"] * train + ["validation"] * validation
    return np.array(names + ["test"] * (count - len(names)), object)


def _examples(info: TaskInfo, root: str, preset: str, lead: str) -> Examples:
    """Makes the examples: every row of LVEF.csv.

    `reference` splits in the file's order, whoever's the records are, and says how many patients
    are on two sides. `clean`: disjoint patients, stratified by the label.
    """
    paths = require_needs(info, root, NEEDS, _APART)
    folder = os.path.dirname(paths["files"])
    labels = read_labels(paths["LVEF.csv"])
    (label,) = info.classes
    column = "lvef" if info.kind == "regression" else "label"
    columns = {
        "example": _numbered(labels["file"].str.rsplit("/", n=1).str[-1]),
        "patient": labels["patient"],
        "split": _reference_splits(len(labels)),
        "file": labels["file"],
        "lead": choose_lead(info, lead),
        "start_s": 0.0,
        "window_s": 10.0,
        label: labels[column],
    }
    examples = Examples(joined(columns, len(labels)), folder, (label,), (threshold_note(labels),))
    require_files(info.name, folder, list(labels["file"]), info.how_to_get)
    examples = without_unlabelled(examples)
    table = examples.table
    if table.empty:
        raise ExamplesError(f"{paths['LVEF.csv']}: no row has a label of {info.name}")
    if preset == "reference":
        torn = int((table.groupby("patient")["split"].nunique() > 1).sum())
        return examples.noting(f"{torn:,} patients are in more than one split, as in the original.")
    strata = strata_of(table[[label]], info.kind)
    examples = examples.split_by(split_patients(table["patient"], strata))
    require_disjoint(examples)
    if info.kind == "regression":
        return examples
    return require_testable_classes(examples, (f"not {label}", label))


def _numbered(names: pd.Series) -> pd.Series:
    """Returns names of which the second of its kind ends in #2, as a record may have two rows."""
    count = names.groupby(names).cumcount()
    return names.where(count == 0, names + "#" + (count + 1).astype(str))


def _task(name: str, kind: Kind, label: str, unit: str, original: str) -> Task:
    info = TaskInfo(
        name=f"mimic_lvef/{name}",
        kind=kind,
        classes=(label,),
        unit=unit,
        source="MIMIC-IV-ECG 1.0, PhysioNet, with LVEF.csv of ECGFounder",
        licence="ODbL 1.0; the labels as ECGFounder states, derived from credentialed MIMIC-IV",
        download="90 GB",
        how_to_get="wget -r -N -c -np https://physionet.org/files/mimic-iv-ecg/1.0/ ; and LVEF.csv "
        "from https://github.com/PKUDigitalHealth/ECGFounder, into the same folder or one beside",
        citation="Gow et al., MIMIC-IV-ECG, PhysioNet (2023), doi:10.13026/4nqg-sb35; Li et al., "
        "An electrocardiogram foundation model built on over 10 million recordings, NEJM AI (2025)",
        access="open",
        original="80 / 10 / 10 % in the file's order, patients not kept together. These are "
        "recordings of the corpus that CLEF was pretrained on, none excluded. One epoch, so that "
        f"neither the schedule nor early stopping acts (Q9). {original}",
        leads=STANDARD_LEADS,
    )
    return Task(info, NEEDS, _examples, reference_preparation(), apart=_APART)


TASKS = (
    _task("lvef-cls", "binary", "LVEF label", "", "The threshold is stated nowhere."),
    _task("lvef-reg", "regression", "LVEF", "%", "L1 on targets scaled by train."),
)
