"""What the cells of a table say of people: ages, sexes, risks, and whatever else it has."""

import numpy as np
import pandas as pd
from absl import logging

from clef_jax.data.recordings.demographics import parse_age
from clef_jax.tables.columns import TableError, is_blank, normalised, quantities, sexes

# Column names as `normalised` spells them, the preferred first.
AGE_COLUMNS = ("age", "age_at_ecg", "anchor_age")
SEX_COLUMNS = ("sex", "gender")
RISK_COLUMNS = ("risk", "score2_risk")
COMPLETENESS_COLUMNS = ("completeness", "rate_meta")
SPLIT_COLUMNS = ("split",)

_PTB_XL_COLUMNS = {"filename_hr", "scp_codes"}


def ages(given: pd.Series, source: str) -> np.ndarray:
    """Returns ages in years, float32; NaN, with a warning, what is none."""
    found = np.array([parse_age(str(age)) for age in quantities(given)], np.float32)
    _warn_of_unreadable(given, ~np.isnan(found), source)
    return found


def males(frame: pd.DataFrame, column: str, coding: str | None, source: str) -> np.ndarray:
    """Returns 1 for male and 0 for female, float32; NaN, with a warning, what is neither.

    Args:
        frame: The table.
        column: Its column of sexes.
        coding: What 0 and 1 mean, a key of `tables.columns.SEX_CODINGS`; known for PTB-XL.
        source: The table's file.

    Raises:
        TableError: Sexes are numbers, and nothing says which is which.
    """
    if coding is None and {normalised(name) for name in frame.columns} >= _PTB_XL_COLUMNS:
        coding = "male0_female1"
    found = sexes(frame[column], coding, source=source)
    _warn_of_unreadable(frame[column], ~np.isnan(found), source)
    return found.astype(np.float32)


def percentages(given: pd.Series, source: str) -> np.ndarray:
    """Returns percentages from 0 to 100, float32, NaN where blank.

    Raises:
        TableError: Something else stands there, which must not pass for unknown.
    """
    return _within(given, 100, "a percentage", source)


def shares(given: pd.Series, source: str) -> np.ndarray:
    """Returns shares from 0 to 1, float32, NaN where blank.

    Raises:
        TableError: Something else stands there, which must not pass for unknown.
    """
    return _within(given, 1, "a share", source)


def numbers_or_text(given: pd.Series) -> np.ndarray:
    """Returns a column as float32, NaN where blank, if it holds numbers alone; else as text.

    True and False are 1 and 0, whether a table of them was written as Parquet or as text.
    """
    numbers, blank = quantities(given), is_blank(given)
    words = given.astype("string").str.strip()
    truths = words.str.lower().map({"true": 1.0, "false": 0.0})
    if (truths.notna() | blank).all():
        return truths.to_numpy(np.float32, na_value=np.nan)
    if (~np.isnan(numbers) | blank).all() and not words.str.contains("/").any():
        return numbers.astype(np.float32)
    return words.mask(given.isna()).to_numpy(object, na_value=None)


def _within(given: pd.Series, most: float, what: str, source: str) -> np.ndarray:
    words = given.astype("string").str.strip()
    if most == 100:
        words = words.str.removesuffix("%")
    numbers = quantities(given if pd.api.types.is_numeric_dtype(given) else words)
    numbers = numbers.astype(np.float32)
    wrong = np.flatnonzero(
        (numbers < 0) | (numbers > most) | (np.isnan(numbers) & ~is_blank(given))
    )
    if len(wrong):
        raise TableError(
            f"{source}: column {given.name!r} holds {given.iloc[wrong[0]]!r} in row {wrong[0] + 1}"
            f"{f' and {len(wrong) - 1} more such values' if len(wrong) > 1 else ''}; expected "
            f"{what} from 0 to {most}, or nothing where it is unknown; correct the column"
        )
    return numbers


def _warn_of_unreadable(given: pd.Series, known: np.ndarray, source: str) -> None:
    """Says which ages or sexes become unknown although something stands there."""
    wrong = np.flatnonzero(~known & ~is_blank(given))
    if len(wrong):
        logging.warning(
            "%s: column %r: %d values are not understood and count as unknown, such as %r in row "
            "%d", source, given.name, len(wrong), given.iloc[wrong[0]], wrong[0] + 1,
        )  # fmt: skip
