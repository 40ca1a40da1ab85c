"""From a table of patients to a table of risks: the right score, or NaN and the reason."""

import os
import pathlib
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from clef_jax.risk import columns as cols
from clef_jax.risk.columns import TableError
from clef_jax.risk.score2 import (
    cholesterol_mmol_l_from_mg_dl,
    hba1c_mmol_mol_from_percent,
    score2,
    score2_diabetes,
    score2_op,
)

CHOL_UNITS = ("mmol/L", "mg/dL")
HBA1C_UNITS = ("mmol/mol", "%")

_BASIC = ("age", "sex", "smoker", "sbp", "total_chol", "hdl", "diabetes")
ATTRIBUTES = {
    "SCORE2": _BASIC,
    "SCORE2-OP": _BASIC,
    "SCORE2-Diabetes": (*_BASIC, *cols.DIABETES_ONLY),
}

# Ages the scores were made for; elsewhere what a living patient can have.
LIMITS = {
    "age": (40, 89, "years"),
    "sbp": (50, 300, "mmHg"),
    "total_chol": (1, 20, "mmol/L"),
    "hdl": (0.1, 6, "mmol/L"),
    "age_at_diagnosis": (0, 89, "years"),
    "hba1c": (15, 200, "mmol/mol"),
    "egfr": (2, 250, "mL/min/1.73 m2"),
}


def compute_risk_table(
    table: pd.DataFrame,
    *,
    region: str,
    columns: Mapping[str, str] | None = None,
    keys: Iterable[str] | None = None,
    chol_units: str = "mmol/L",
    hba1c_units: str = "mmol/mol",
    sex_coding: str | None = None,
    assume_no_diabetes: bool = False,
    source: str = "the table",
) -> pd.DataFrame:
    """Computes each row's 10-year cardiovascular risk.

    SCORE2 serves ages 40 to 69 without diabetes, SCORE2-Diabetes those ages with it, SCORE2-OP
    ages 70 to 89 with or without. A score begins on the birthday: 69.9 years are still 69.

    Args:
        table: one row a patient or a record.
        region: risk region: low, moderate, high or very_high.
        columns: attribute (as in `ATTRIBUTES`) -> column, where no usual name fits.
        keys: columns that identify a row; those of a usual name when not given.
        chol_units: of total and HDL cholesterol, one of `CHOL_UNITS`.
        hba1c_units: one of `HBA1C_UNITS`.
        sex_coding: key of `columns.SEX_CODINGS` if sex is given as 0 and 1.
        assume_no_diabetes: nobody in the table has diabetes; its columns are not read.
        source: what error messages call the table.

    Returns:
        The key columns as given, then risk (percent, NaN where unknown), score (name, "" where
        none was computed), missing (how many attributes are blank or unreadable), attributes (how
        many the score of this age and diabetes takes), completeness (the share present) and
        reason ("" or why the risk is NaN, naming attribute and value).

    Raises:
        TableError: a missing column, an ambiguous coding of sex, values in another unit.
        ValueError: an unknown region.
    """
    unread = ("diabetes", *cols.DIABETES_ONLY) if assume_no_diabetes else ()
    key_columns = cols.locate_keys(table.columns, keys, source=source)
    found = cols.locate(
        table.columns, columns, optional=(*cols.DIABETES_ONLY, *unread), source=source
    )
    raw = {
        attribute: table[found[attribute]]
        if attribute in found and attribute not in unread
        else pd.Series(pd.NA, index=table.index, dtype="string")
        for attribute in cols.SYNONYMS
    }
    values = _read(raw, sex_coding, source)
    if assume_no_diabetes:
        values["diabetes"] = np.zeros(len(table))
    _check_units(values, chol_units, hba1c_units, source)
    if chol_units == "mg/dL":
        values["total_chol"] = cholesterol_mmol_l_from_mg_dl(values["total_chol"])
        values["hdl"] = cholesterol_mmol_l_from_mg_dl(values["hdl"])
    if hba1c_units == "%":
        values["hba1c"] = hba1c_mmol_mol_from_percent(values["hba1c"])

    old = values["age"] >= 70
    applies = {
        "SCORE2": ~old & (values["diabetes"] != 1),
        "SCORE2-OP": old,
        "SCORE2-Diabetes": ~old & (values["diabetes"] == 1),
    }
    reason, missing, attributes = _shortcomings(values, raw, applies)
    usable = reason == ""
    risk = np.full(len(table), np.nan)
    score = np.full(len(table), "", dtype=object)
    for name, where in applies.items():
        rows = np.flatnonzero(where & usable)
        risk[rows] = _score(name, {key: value[rows] for key, value in values.items()}, region)
        score[rows] = name
    return table[key_columns].assign(
        risk=risk,
        score=score,
        missing=missing,
        attributes=attributes,
        completeness=(attributes - missing) / attributes,
        reason=reason,
    )


def read_table(path: str | os.PathLike) -> pd.DataFrame:
    """Reads a CSV (every cell as text, so that ids keep their zeros) or Parquet table.

    Raises:
        TableError: not there, of another kind, or unreadable.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise TableError(f"{path}: no such file.")
    try:
        if _is_parquet(path):
            return pd.read_parquet(path)
        return pd.read_csv(path, dtype="string")
    except (OSError, ValueError) as error:
        raise TableError(f"{path} cannot be read as a table: {error}") from error


def write_table(table: pd.DataFrame, path: str | os.PathLike) -> None:
    """Writes a CSV or Parquet table, by the extension; the file appears whole or not at all.

    Raises:
        TableError: another extension.
    """
    path = pathlib.Path(path)
    parquet = _is_parquet(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        if parquet:
            table.to_parquet(unfinished, index=False)
        else:
            table.to_csv(unfinished, index=False)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def summary(risks: pd.DataFrame) -> str:
    """Counts of a risk table for the terminal: rows, scores, reasons, quantiles of the risk."""
    lines = [f"{len(risks):,} rows"]
    for name in ATTRIBUTES:
        lines.append(f"  {name:<16} {np.count_nonzero(risks['score'] == name):>10,}")
    unknown = risks["reason"][risks["reason"] != ""]
    lines.append(f"  {'no risk (NaN)':<16} {len(unknown):>10,}")
    kinds = unknown.str.split("; ").explode().str.replace(r" '.*?' ", " ", regex=True)
    for kind, count in kinds.value_counts().items():
        lines.append(f"    {count:>10,}  {kind}")
    known = risks["risk"].dropna()
    if len(known):
        quantiles = known.quantile([0, 0.05, 0.25, 0.5, 0.75, 0.95, 1])
        lines.append(
            "Risk in percent: "
            + ", ".join(
                f"{name} {value:.2f}"
                for name, value in zip(
                    ("min", "5 %", "25 %", "median", "75 %", "95 %", "max"), quantiles, strict=True
                )
            )
        )
    return "\n".join(lines)


def _read(raw, sex_coding, source):
    values = {attribute: cols.quantities(raw[attribute]) for attribute in LIMITS}
    values["sex"] = cols.sexes(raw["sex"], sex_coding, source=source)
    for attribute in ("smoker", "diabetes"):
        values[attribute] = cols.yes_or_no(raw[attribute], attribute)
    return values


def _check_units(values, chol_units, hba1c_units, source):
    """Compares medians, which a few slips of the pen do not move, with what units allow."""
    chol, hdl, hba1c, sbp = (
        np.median(known) if (known := values[name][~np.isnan(values[name])]).size else np.nan
        for name in ("total_chol", "hdl", "hba1c", "sbp")
    )

    def refuse(what, median, declared, likely, option):
        raise TableError(
            f"{source}: the median {what} is {median:.4g}, which cannot be {declared} and looks "
            f"like {likely}. {option}"
        )

    for what, median, most in (("total cholesterol", chol, 30), ("HDL cholesterol", hdl, 10)):
        if chol_units == "mmol/L" and median > most:
            refuse(what, median, "mmol/L", "mg/dL", "Set --chol_units=mg/dL.")
    for what, median, least in (("total cholesterol", chol, 30), ("HDL cholesterol", hdl, 10)):
        if chol_units == "mg/dL" and median < least:
            refuse(what, median, "mg/dL", "mmol/L", "Set --chol_units=mmol/L.")
    if hba1c_units == "mmol/mol" and hba1c < 16:
        refuse("HbA1c", hba1c, "mmol/mol", "percent", "Set --hba1c_units=%.")
    if hba1c_units == "%" and hba1c > 25:
        refuse("HbA1c", hba1c, "percent", "mmol/mol", "Set --hba1c_units=mmol/mol.")
    if sbp < 40:
        refuse("systolic pressure", sbp, "mmHg", "kPa or cmHg", "Convert it to mmHg first.")


def _shortcomings(values, raw, applies):
    """Why each row has no risk, how many attributes it lacks, and out of how many."""
    rows = len(values["age"])
    reason = np.full(rows, "", dtype=object)
    missing = np.zeros(rows, dtype=np.int64)
    attributes = np.zeros(rows, dtype=np.int64)

    def add(where, text):
        reason[where] = np.where(reason[where] == "", text, reason[where] + "; " + text)

    for attribute in cols.SYNONYMS:
        needed = np.zeros(rows, dtype=bool)
        for name, where in applies.items():
            needed |= where & (attribute in ATTRIBUTES[name])
        attributes += needed
        absent = needed & np.isnan(values[attribute])
        missing += absent
        blank = absent & cols.is_blank(raw[attribute])
        add(blank, f"{attribute} missing")
        unreadable = absent & ~blank
        add(unreadable, _quoted(attribute, raw[attribute][unreadable], "not understood"))
        if attribute in LIMITS:
            low, high, unit = LIMITS[attribute]
            value = values[attribute]
            # A patient is 89 until the 90th birthday.
            beyond = value >= high + 1 if unit == "years" else value > high
            outside = needed & ((value < low) | beyond)
            text = f"out of range ({low} to {high} {unit})"
            add(outside, _quoted(attribute, raw[attribute][outside], text))
    late = (values["age_at_diagnosis"] >= values["age"] + 1) & applies["SCORE2-Diabetes"]
    add(late, _quoted("age_at_diagnosis", raw["age_at_diagnosis"][late], "after the age itself"))
    return reason, missing, attributes


def _quoted(attribute, found, text):
    return (f"{attribute} '" + found.astype("string") + f"' {text}").to_numpy(dtype=object)


def _score(name, v, region):
    conventional = (v["age"], v["sex"], v["smoker"], v["sbp"], v["total_chol"], v["hdl"])
    if name == "SCORE2":
        return score2(*conventional, region=region)
    if name == "SCORE2-OP":
        return score2_op(*conventional, diabetes=v["diabetes"], region=region)
    return score2_diabetes(
        *conventional, v["age_at_diagnosis"], v["hba1c"], v["egfr"], region=region
    )


def _is_parquet(path):
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise TableError(f"{path}: tables are .csv or .parquet files.")
    return path.suffix.lower() == ".parquet"
