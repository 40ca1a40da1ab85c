"""From a table of patients to a table of risks: the right score, or NaN and the reason."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from absl import logging

from clef_jax.risk import units as risk_units
from clef_jax.risk.attributes import DIABETES_ONLY, SYNONYMS, locate, locate_keys
from clef_jax.risk.score2 import score2, score2_diabetes, score2_op
from clef_jax.risk.units import CONVERTED, LIMITS
from clef_jax.tables.columns import is_blank, quantities, sexes, yes_or_no

_BASIC = ("age", "sex", "smoker", "sbp", "total_chol", "hdl", "diabetes")
ATTRIBUTES = {
    "SCORE2": _BASIC,
    "SCORE2-OP": _BASIC,
    "SCORE2-Diabetes": (*_BASIC, *DIABETES_ONLY),
}


def compute_risk_table(
    table: pd.DataFrame,
    *,
    region: str,
    columns: Mapping[str, str] | None = None,
    keys: Iterable[str] | None = None,
    chol_units: str | None = None,
    hba1c_units: str | None = None,
    sex_coding: str | None = None,
    assume_no_diabetes: bool = False,
    source: str = "the table",
) -> pd.DataFrame:
    """Computes each row's 10-year cardiovascular risk.

    SCORE2 serves ages 40 to 69 without diabetes, SCORE2-Diabetes those ages with it, SCORE2-OP
    ages 70 to 89 with or without. A score begins on the birthday: 69.9 years are still 69.

    Args:
        table: One row a patient or a record.
        region: Risk region: low, moderate, high or very_high.
        columns: Attribute (as in `ATTRIBUTES`) -> column, where no usual name fits.
        keys: Columns that identify a row; those of a usual name when not given.
        chol_units: Of both cholesterols, one of `units.CHOL_UNITS`; None takes each column's
            from its header ("HDL-C (mg/dL)"), or mmol/L where that names none.
        hba1c_units: One of `units.HBA1C_UNITS`; None takes the header's, or mmol/mol.
        sex_coding: Key of `tables.columns.SEX_CODINGS` if sex is given as 0 and 1.
        assume_no_diabetes: Nobody in the table has diabetes; its columns are not read.
        source: What error messages call the table.

    Returns:
        The key columns as given, then risk (percent, NaN where unknown), score (name, "" where
        none was computed), missing (how many attributes are blank or unreadable), attributes (how
        many the score of this age and diabetes takes), completeness (the share present) and
        reason ("" or why the risk is NaN, naming attribute and value).

    Raises:
        TableError: Missing columns, an ambiguous coding of sex, values in another unit.
        ValueError: An unknown region.

    Logs a warning where the columns of diabetes are absent, and where rows name nobody or several
    rows of other values name the same.
    """
    unread = ("diabetes", *DIABETES_ONLY) if assume_no_diabetes else ()
    key_columns = locate_keys(table.columns, keys, source=source)
    found = locate(table.columns, columns, optional=(*DIABETES_ONLY, *unread), source=source)
    raw = {
        attribute: table[found[attribute]]
        if attribute in found and attribute not in unread
        else pd.Series(pd.NA, index=table.index, dtype="string")
        for attribute in SYNONYMS
    }
    _warn_of_absent_columns(found, assume_no_diabetes, source)
    _warn_of_keys(table, key_columns, list(found.values()), source)
    units = risk_units.units_of(found, chol_units, hba1c_units, source)
    values = _read(raw, units, sex_coding, source)
    if assume_no_diabetes:
        values["diabetes"] = np.zeros(len(table))

    old = values["age"] >= 70
    applies = {
        "SCORE2": ~old & (values["diabetes"] != 1),
        "SCORE2-OP": old,
        "SCORE2-Diabetes": ~old & (values["diabetes"] == 1),
    }
    reason, missing, attributes = _shortcomings(values, raw, applies, units)
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


def report(risks: pd.DataFrame) -> str:
    """Returns the counts of a risk table for the terminal: rows, scores, reasons, quantiles."""
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


def _read(raw, units, sex_coding, source):
    """Returns the attributes as numbers, in the units of the scores."""
    values = {attribute: quantities(raw[attribute]) for attribute in LIMITS}
    values["sex"] = sexes(raw["sex"], sex_coding, source=source)
    for attribute in ("smoker", "diabetes"):
        values[attribute] = yes_or_no(raw[attribute], attribute)
    risk_units.check_medians(values, units, source)
    for attribute, (_, other, convert) in CONVERTED.items():
        if units[attribute] == other:
            values[attribute] = convert(values[attribute])
    return values


def _warn_of_absent_columns(found, assume_no_diabetes, source):
    absent = [name for name in DIABETES_ONLY if name not in found]
    if absent and not assume_no_diabetes:
        logging.warning(
            "%s has no column for %s: patients with diabetes below 70 years get no risk. Name the "
            "columns with --%s_column and the like if they are there.",
            source, ", ".join(absent), absent[0],
        )  # fmt: skip


def _warn_of_keys(table, key_columns, read_columns, source):
    keys = table[key_columns]
    nobody = np.logical_and.reduce([is_blank(keys[name]) for name in key_columns])
    if nobody.any():
        logging.warning(
            "%s: %d rows name nobody in %s, such as row %d; no record will find them.",
            source, nobody.sum(), ", ".join(key_columns), nobody.argmax() + 1,
        )  # fmt: skip
    named = table[~nobody]
    named = named[named.duplicated(key_columns, keep=False)]
    different = named.drop_duplicates([*key_columns, *read_columns])
    again = different[different.duplicated(key_columns, keep=False)]
    if len(again):
        logging.warning(
            "%s: %d rows say something else of %s %s and the like than another row does. Where one "
            "of these is a record's only key, write_shards will refuse the table.",
            source, len(again), key_columns[0], again[key_columns[0]].iloc[0],
        )  # fmt: skip


def _shortcomings(values, raw, applies, units):
    """Why each row has no risk, how many attributes it lacks, and out of how many."""
    rows = len(values["age"])
    reason = np.full(rows, "", dtype=object)
    missing = np.zeros(rows, dtype=np.int64)
    attributes = np.zeros(rows, dtype=np.int64)

    def add(where, text):
        reason[where] = np.where(reason[where] == "", text, reason[where] + "; " + text)

    for attribute in SYNONYMS:
        needed = np.zeros(rows, dtype=bool)
        for name, where in applies.items():
            needed |= where & (attribute in ATTRIBUTES[name])
        attributes += needed
        absent = needed & np.isnan(values[attribute])
        missing += absent
        blank = absent & is_blank(raw[attribute])
        add(blank, f"{attribute} missing")
        unreadable = absent & ~blank
        add(unreadable, _quoted(attribute, raw[attribute][unreadable], "not understood"))
        if attribute in LIMITS:
            low, high, unit = LIMITS[attribute]
            value = values[attribute]
            # A patient is 89 until the 90th birthday.
            beyond = value >= high + 1 if unit == "years" else value > high
            outside = needed & ((value < low) | beyond)
            text = f"out of range ({risk_units.limits_text(attribute, units[attribute])})"
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
