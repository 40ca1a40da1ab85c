"""Columns of a table of people: their names, and what their text means."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from clef_jax.errors import ClefError

SEX_CODINGS = {
    "male0_female1": {"0": 1.0, "1": 0.0},
    "male1_female0": {"0": 0.0, "1": 1.0},
}

# Units as headers spell them, without anything but letters, digits and %.
_UNITS = {
    "mmoll": "mmol/L",
    "mgdl": "mg/dL",
    "mmolmol": "mmol/mol",
    "%": "%",
    "percent": "%",
    "mmhg": "mmHg",
    "years": "years",
    "yrs": "years",
    "mlmin": "mL/min/1.73 m2",
    "mlmin173m2": "mL/min/1.73 m2",
}
_BRACKETED = re.compile(r"(.*?)\s*[(\[]([^()\[\]]*)[)\]]\s*")

_SEX = {"m": 1.0, "male": 1.0, "man": 1.0, "f": 0.0, "female": 0.0, "woman": 0.0}
_NO = dict.fromkeys(("0", "false", "no", "n", "f", "never", "none"), 0.0)
_YES = dict.fromkeys(("1", "true", "yes", "y", "t"), 1.0)
_MEANINGS = {
    # SCORE2 counts former smokers as non-smokers.
    "smoker": dict.fromkeys(("former", "ex", "past", "previous", "quit", "non"), 0.0)
    | {"nonsmoker": 0.0, "exsmoker": 0.0, "smoker": 1.0, "current": 1.0},
    # Type 1 is left out: none of the scores was made for it.
    "diabetes": {"diabetic": 1.0, "nondiabetic": 0.0, "no_diabetes": 0.0, "diabetes": 1.0}
    | dict.fromkeys(("type_2", "type2", "type_ii", "t2d", "t2dm", "dm2", "type_2_diabetes"), 1.0),
}
_BLANK = frozenset({"", "-", ".", "?", "na", "n/a", "nan", "null", "none", "missing", "unknown"})


class TableError(ClefError):
    """A table that cannot be used as it is; the message says what to change."""


def normalised(name: str) -> str:
    """Returns a column's name in lower case, all runs of other than a-z and 0-9 as one '_'."""
    return re.sub(r"[^a-z0-9]+", "_", str(name).lower()).strip("_")


def header_unit(column: str) -> tuple[str, str | None]:
    """Splits a column's name, such as "HDL-C (mg/dL)" or total_chol_mmol_l, from its unit.

    Returns:
        The normalised name without the unit, and the unit: one of those the risk scores know in its
        usual spelling, another as it stands, None where there is none.
    """
    if match := _BRACKETED.fullmatch(str(column)):
        name, given = match.groups()
        known = _UNITS.get(re.sub(r"[^a-z0-9%]+", "", given.lower().replace("\u00b2", "2")))
        # A bracket may hold a remark instead: "SBP (sitting)".
        return normalised(name), known or (given if "/" in given or "pa" in given.lower() else None)
    words = normalised(column).split("_")
    for count in range(1, min(4, len(words))):
        if unit := _UNITS.get("".join(words[-count:])):
            return "_".join(words[:-count]), unit
    return "_".join(words), None


def sexes(values: pd.Series, coding: str | None = None, *, source: str = "the table") -> np.ndarray:
    """Reads sex as 1.0 for male, 0.0 for female and NaN for anything else.

    Numbers are read only under a named coding: 1 is male in many tables and female in others.

    Args:
        values: M, F, male, female and the like in any case, or 0 and 1.
        coding: Key of `SEX_CODINGS`.
        source: What error messages call the table.

    Raises:
        TableError: Numbers without a coding.
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
    """Reads a diabetes or smoker column as 1.0, 0.0 and NaN for anything else.

    Understood are 0 and 1, yes and no, "ex-smoker", "Type 2" and the like, in any case.
    """
    words = _words(values).str.replace(r"[\s_\-]+", "_", regex=True)
    if attribute == "smoker":
        words = words.str.replace(r"_smoker$", "", regex=True)
    return words.map(_NO | _YES | _MEANINGS[attribute]).to_numpy(dtype=np.float64)


def quantities(values: pd.Series) -> np.ndarray:
    """Reads numbers, of "135/80" the first; NaN for anything else (infinite values included).

    A comma is a decimal comma where the column as a whole allows no other reading: in no cell it
    stands beside a point or a second comma, and in some cell not before exactly three digits.
    """
    if not pd.api.types.is_numeric_dtype(values):
        words = _words(values).str.split("/").str[0].str.strip()
        if _has_decimal_commas(words):
            words = words.str.replace(",", ".")
        values = pd.to_numeric(words, errors="coerce")
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _has_decimal_commas(words: pd.Series) -> bool:
    with_comma = words[words.str.contains(",", regex=False).fillna(False)]
    plain = words.str.contains(".", regex=False).fillna(False).any()
    if with_comma.empty or plain or (with_comma.str.count(",") > 1).any():
        return False
    return not with_comma.str.fullmatch(r"[-+]?[1-9]\d{0,2},\d{3}").all()


def is_blank(values: pd.Series) -> np.ndarray:
    """Tells where a cell holds nothing, or a word that says so, as against what is unreadable."""
    return (values.isna() | _words(values).isin(_BLANK).fillna(True)).to_numpy(dtype=bool)


def _words(values):
    words = values.astype("string").str.strip().str.lower()
    return words.str.replace(r"^(-?\d+)\.0*$", r"\1", regex=True)


def find_column(
    frame: pd.DataFrame,
    names: Sequence[str],
    given: str | None,
    source: str,
    required: str | None = None,
) -> str | None:
    """Returns the column named by the user, or the first that bears one of the usual names."""
    if given is not None:
        if given not in frame.columns:
            raise TableError(
                f"{source}: no column {given!r}; found {', '.join(frame.columns)}; correct the "
                "option"
            )
        return given
    spelled = {normalised(column): column for column in reversed(frame.columns)}
    for name in names:
        if name in spelled:
            return spelled[name]
    if required:
        raise TableError(
            f"{source}: no column for {required} (looked for {', '.join(names)}); found "
            f"{', '.join(frame.columns)}; rename it or name it by an option"
        )
    return None
