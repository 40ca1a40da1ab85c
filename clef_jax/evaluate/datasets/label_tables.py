"""Ready tables for `user_table`, made of open datasets that are there in part: real signal, small.

Their files are relative to the folder that holds the datasets.
"""

import os
import re

import numpy as np
import pandas as pd

from clef_jax.data.recordings.wfdb_header import read_header
from clef_jax.evaluate.datasets import ptbxl
from clef_jax.evaluate.datasets.beats import read_annotations
from clef_jax.tables.files import read_table

_WINDOW_S = 10.0


def ptbxl_age(root: str) -> pd.DataFrame:
    """Returns PTB-XL's age in years where it is published (above 89 it is not), by fold."""
    table = ptbxl.read_database(os.path.join(root, "ptb-xl"))
    return _ptbxl(table).assign(age_years=table["age"])[table["age"].between(0, 120)]


def ptbxl_sex(root: str) -> pd.DataFrame:
    """Returns PTB-XL's sex, 1 for male, by fold."""
    table = ptbxl.read_database(os.path.join(root, "ptb-xl"))
    return _ptbxl(table).assign(male=1 - table["sex"])[table["sex"].notna()]


def _ptbxl(table: pd.DataFrame) -> pd.DataFrame:
    patient = ptbxl.people(table)["patient"]
    file = "ptb-xl/" + table["filename_hr"]
    return pd.DataFrame({"file": file, "patient": patient, "split": ptbxl.folds(table)})


def ludb_af(root: str) -> pd.DataFrame:
    """Returns whether LUDB's rhythm is atrial fibrillation; unknown for flutter."""
    table = _ludb(root)
    rhythm = table.pop("Rhythms")
    af = rhythm.str.contains("Atrial fibrillation").astype("float64")
    table["af"] = af.mask(rhythm.str.contains("flutter"))
    return table.drop(columns="Electric axis of the heart")


def ludb_axis(root: str) -> pd.DataFrame:
    """Returns LUDB's electric axis in words; unknown where it is not stated."""
    table = _ludb(root)
    axis = table.pop("Electric axis of the heart")
    table["axis"] = axis.str.removeprefix("Electric axis of the heart: ")
    return table.drop(columns="Rhythms")


def _ludb(root: str) -> pd.DataFrame:
    table = read_table(os.path.join(root, "ludb", "ludb.csv"))
    # Every cell of text ends in a newline.
    table = table.apply(lambda column: column.astype("string").str.strip())
    columns = {"file": "ludb/data/" + table["ID"], "patient": table["ID"]}
    columns |= {"age": table["Age"].str.extract(r"(\d+)")[0], "sex": table["Sex"]}
    kept = table[["Rhythms", "Electric axis of the heart"]]
    return pd.concat([pd.DataFrame(columns), kept], axis=1)


def cpsc2021_af(root: str) -> pd.DataFrame:
    """Returns windows of 10 s of CPSC 2021 that are wholly in atrial fibrillation, or wholly not.

    They follow one another; those that hold a change are left out, as is flutter.
    """
    folder = os.path.join(root, "cpsc2021")
    with open(os.path.join(folder, "RECORDS"), encoding="utf-8") as stream:
        records = [os.path.basename(line) for line in stream.read().split()]
    rows = [row for record in records for row in _cpsc2021_windows(folder, record)]
    return pd.DataFrame(rows, columns=["file", "patient", "start_s", "af"])


def _cpsc2021_windows(folder: str, record: str) -> list[tuple[str, str, float, int]]:
    header = read_header(os.path.join(folder, record))
    af, other = np.zeros((2, header.samples), bool)
    for episode in read_annotations(header.path, header.samples).episodes:
        chosen = {"AFIB": af, "AFL": other}.get(episode.rhythm)
        if chosen is not None:
            chosen[episode.start : episode.stop] = True
    length = round(_WINDOW_S * header.fs)
    patient = re.sub(r"^data_(\d+)_.*$", r"\1", record)
    rows = []
    for start in range(0, header.samples - length + 1, length):
        part = slice(start, start + length)
        if other[part].any() or (af[part].any() and not af[part].all()):
            continue
        rows.append((f"cpsc2021/{record}", patient, start / header.fs, int(af[start])))
    return rows


TABLES = {made.__name__: made for made in (ptbxl_age, ptbxl_sex, ludb_af, ludb_axis, cpsc2021_af)}
