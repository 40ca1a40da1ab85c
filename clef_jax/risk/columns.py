"""Columns of a patient table: which column holds which attribute, and what its text means."""

import re
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

# Names an attribute goes by, the preferred first. Compared in lower case, with every run of
# other characters as one underscore, so that "Blood Pressure" is blood_pressure.
SYNONYMS = {
    "age": ("age", "age_at_ecg", "anchor_age", "age_years"),
    "sex": ("sex", "gender"),
    "smoker": ("smoker", "smoking", "current_smoker", "smoking_status"),
    "sbp": (
        "sbp",
        "sbp_mmhg",
        "systolic",
        "systolic_bp",
        "systolic_blood_pressure",
        "blood_pressure",
        "bp",
    ),
    "total_chol": (
        "total_chol",
        "total_chol_mmol_l",
        "total_cholesterol",
        "cholesterol",
        "chol",
        "tc",
    ),
    "hdl": ("hdl", "hdl_mmol_l", "hdl_chol", "hdl_cholesterol"),
    "diabetes": ("diabetes", "diabetic", "diabetes_mellitus"),
    "age_at_diagnosis": ("age_at_diagnosis", "age_at_diabetes_diagnosis", "diabetes_age"),
    "hba1c": ("hba1c", "hba1c_mmol_mol"),
    "egfr": ("egfr", "egfr_ml_min"),
}
KEYS = ("subject_id", "patient_id", "patient", "study_id", "ecg_id", "record", "record_id", "path")
# Only patients with diabetes have them, so a table may come without.
DIABETES_ONLY = ("age_at_diagnosis", "hba1c", "egfr")

SEX_CODINGS = {
    "male0_female1": {"0": 1.0, "1": 0.0},
    "male1_female0": {"0": 0.0, "1": 1.0},
}

_SEX = {"m": 1.0, "male": 1.0, "man": 1.0, "f": 0.0, "female": 0.0, "woman": 0.0}
_NO = {"0": 0.0, "false": 0.0, "no": 0.0, "n": 0.0, "f": 0.0}
_YES = {"1": 1.0, "true": 1.0, "yes": 1.0, "y": 1.0, "t": 1.0}
# SCORE2 counts former smokers as non-smokers.
_SMOKER = {"never": 0.0, "former": 0.0, "ex": 0.0, "past": 0.0, "non-smoker": 0.0, "current": 1.0}


class TableError(ValueError):
    """A table that cannot be used as it is; the message says what to change."""


def normalised(name: str) -> str:
    """Column name in lower case, every run of other characters than a-z and 0-9 as one '_'."""
    return re.sub(r"[^a-z0-9]+", "_", str(name).lower()).strip("_")


def locate(
    columns: Iterable[str],
    mapping: Mapping[str, str] | None = None,
    *,
    optional: Iterable[str] = DIABETES_ONLY,
    source: str = "the table",
) -> dict[str, str]:
    """Finds the column of each risk attribute.

    Args:
        columns: the table's column names.
        mapping: attribute -> column, where the names in `SYNONYMS` do not fit.
        optional: attributes whose column may be absent.
        source: what error messages call the table.

    Returns:
        attribute -> column name as the table spells it, without the absent optional ones.

    Raises:
        TableError: a required attribute has no column, or a mapped column does not exist.
    """
    columns = list(columns)
    mapping = mapping or {}
    spelled = {normalised(column): column for column in reversed(columns)}
    found = {}
    for attribute, names in SYNONYMS.items():
        wanted = mapping.get(attribute)
        if wanted is not None and wanted not in columns:
            raise TableError(
                f"{source} has no column {wanted!r}, which --{attribute}_column names. "
                f"Columns found: {', '.join(columns)}."
            )
        candidates = [spelled[name] for name in names if name in spelled]
        if wanted is not None:
            found[attribute] = wanted
        elif candidates:
            found[attribute] = candidates[0]
        elif attribute not in optional:
            raise TableError(
                f"{source} has no column for {attribute} (looked for {', '.join(names)}). "
                f"Columns found: {', '.join(columns)}. "
                f"Name the right one with --{attribute}_column."
            )
    return found


def locate_keys(
    columns: Iterable[str], keys: Iterable[str] | None = None, *, source: str = "the table"
) -> list[str]:
    """Columns that say which patient or record a row is about.

    Args:
        columns: the table's column names.
        keys: their names; found by the names in `KEYS` when not given.
        source: what error messages call the table.

    Raises:
        TableError: none is there.
    """
    columns = list(columns)
    wanted = list(keys or ())
    found = [c for c in columns if (c in wanted if wanted else normalised(c) in KEYS)]
    if not found or set(wanted) - set(found):
        raise TableError(
            f"{source} lacks the key column(s) {', '.join(wanted or KEYS)}, which say whose row "
            f"it is. Columns found: {', '.join(columns)}. Name them with --keys."
        )
    return found


def sexes(values: pd.Series, coding: str | None = None, *, source: str = "the table") -> np.ndarray:
    """Reads sex as 1.0 for male, 0.0 for female and NaN for anything else.

    Numbers are read only under a named coding: 1 is male in many tables and female in others.

    Args:
        values: M, F, male, female and the like in any case, or 0 and 1.
        coding: key of `SEX_CODINGS`.
        source: what error messages call the table.

    Raises:
        TableError: numbers without a coding.
    """
    words = _words(values)
    if coding is None and words.isin(["0", "1"]).any():
        raise TableError(
            f"{source}: column {values.name!r} codes sex as numbers, and which is male differs "
            f"between databases. Say so with --sex_coding={' or '.join(SEX_CODINGS)} "
            "(PTB-XL: male0_female1)."
        )
    return words.map(_SEX | (SEX_CODINGS[coding] if coding else {})).to_numpy(dtype=np.float64)


def yes_or_no(values: pd.Series, attribute: str) -> np.ndarray:
    """Reads a diabetes or smoker column as 1.0, 0.0 and NaN for anything else."""
    meaning = _NO | _YES | (_SMOKER if attribute == "smoker" else {})
    return _words(values).map(meaning).to_numpy(dtype=np.float64)


def quantities(values: pd.Series) -> np.ndarray:
    """Reads numbers, of "135/80" the first; NaN for anything else (infinite values included)."""
    if not pd.api.types.is_numeric_dtype(values):
        values = pd.to_numeric(_words(values).str.split("/").str[0], errors="coerce")
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.where(np.isfinite(numbers), numbers, np.nan)


def is_blank(values: pd.Series) -> np.ndarray:
    """Where a cell holds nothing, as against something unreadable."""
    return (values.isna() | (_words(values) == "").fillna(True)).to_numpy(dtype=bool)


def _words(values):
    words = values.astype("string").str.strip().str.lower()
    return words.str.replace(r"^(-?\d+)\.0*$", r"\1", regex=True)
