"""Labels in a user's table: which columns they are, of what kind, and their numbers."""

import difflib
from collections.abc import Sequence
from typing import get_args

import numpy as np
import pandas as pd

from clef_jax.evaluate.tasks.examples import CLASS, ExamplesError, clipped, first_few
from clef_jax.evaluate.tasks.task import Kind
from clef_jax.tables.columns import is_blank, quantities

_YES_OR_NO = {"true": 1.0, "false": 0.0}
_UNNAMED = "Unnamed: "
# Of a column of numbers some cells may hold text by mistake.
_MOSTLY = 0.5


def choose_columns(
    table: pd.DataFrame, wanted: Sequence[str], others: Sequence[str], source: str
) -> list[str]:
    """Returns the label columns: those wanted, or where none is all that mean nothing else.

    Raises:
        ExamplesError: One wanted is not there, of which the nearest names are said; or none is.
    """
    if wanted:
        for name in wanted:
            if name not in table.columns:
                near = difflib.get_close_matches(name, table.columns, n=3, cutoff=0.4)
                raise ExamplesError(
                    f"{source}: no label column {name!r}; the nearest are "
                    f"{first_few(near) or 'none'}; found {', '.join(map(clipped, table.columns))}"
                )
        return list(wanted)
    # A column without a name, such as of row numbers, is no label.
    found = [name for name in table if name not in others and not name.startswith(_UNNAMED)]
    if not found:
        raise ExamplesError(
            f"{source}: no label column: {first_few(table.columns)} all mean something else; add "
            "one, or name one of them as label"
        )
    return found


def infer_kind(table: pd.DataFrame, columns: Sequence[str], source: str) -> Kind:
    """Returns the kind of the labels: 0 and 1 in one column or several, text, other numbers.

    Raises:
        ExamplesError: There are several columns, and one holds other than 0 and 1; or a column
            holds numbers and some text.
    """
    zero_or_one = {name: is_zero_or_one(table[name]) for name in columns}
    if len(columns) > 1:
        if wrong := [name for name, fits in zero_or_one.items() if not fits]:
            raise ExamplesError(
                f"{source}: {len(columns)} label columns, but {first_few(wrong)} hold other than "
                "0 and 1; name the columns that are labels, all of 0 and 1 or only one"
            )
        return "multilabel"
    if zero_or_one[columns[0]]:
        return "binary"
    values = table[columns[0]]
    known = ~is_blank(values)
    # What is infinite is a number, though none that could be learned.
    infinite = pd.to_numeric(values.astype("string"), errors="coerce").abs().eq(np.inf)
    numeric = (np.isfinite(plain_numbers(values)) | infinite.fillna(False).to_numpy(bool))[known]
    if not numeric.all() and numeric.mean() > _MOSTLY:
        rows = [_cell(values, at) for at in np.flatnonzero(known)[~numeric]]
        raise ExamplesError(
            f"{source}: label {clipped(columns[0])}: numbers but for {first_few(rows)}; correct "
            "these cells, or say that the kind is multiclass"
        )
    return "regression" if numeric.size and numeric.all() else "multiclass"


def plain_numbers(values: pd.Series) -> np.ndarray:
    """Reads numbers; NaN for anything else, such as the pair "135/80" or the date "1/3/2020"."""
    is_whole = ~values.astype("string").str.contains("/").fillna(False).to_numpy(bool)
    return np.where(is_whole, quantities(values), np.nan)


def _cell(values: pd.Series, at: np.integer) -> str:
    return f"{clipped(repr(values.iloc[at]))} (row {at + 1})"


def is_zero_or_one(values: pd.Series) -> bool:
    """Tells whether a column holds 0 and 1 (or false and true) and nothing else but blanks."""
    numbers = _zero_or_one(values)
    return bool(np.isfinite(numbers[~is_blank(values)]).all()) and np.isfinite(numbers).any()


def _zero_or_one(values: pd.Series) -> np.ndarray:
    words = values.astype("string").str.strip().str.lower()
    numbers = pd.to_numeric(words, errors="coerce").fillna(words.map(_YES_OR_NO))
    numbers = numbers.to_numpy(np.float64, na_value=np.nan)
    return np.where((numbers == 0) | (numbers == 1), numbers, np.nan)


def read_labels(
    table: pd.DataFrame, columns: Sequence[str], kind: Kind, source: str
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Reads labels of a kind; NaN where a cell is blank.

    Returns:
        float64 columns, one `CLASS` for exclusive classes; and the names of `TaskInfo.classes`.

    Raises:
        ExamplesError: The kind is none, a cell is of another kind, or a column says nothing.
    """
    if kind not in get_args(Kind):
        raise ExamplesError(f"{source}: kind {kind!r}; expected {', '.join(get_args(Kind))}")
    if kind != "multilabel" and len(columns) != 1:
        raise ExamplesError(
            f"{source}: {kind} asks for one label column, found {first_few(columns)}; name one"
        )
    if kind == "multiclass":
        return _read_classes(table[columns[0]], source)
    read = plain_numbers if kind == "regression" else _zero_or_one
    expected = "a number" if kind == "regression" else "0 or 1"
    labels = pd.DataFrame(index=table.index)
    for name in columns:
        labels[name] = read(table[name])
        wrong = labels[name].isna() & ~is_blank(table[name])
        if wrong.any():
            rows = [_cell(table[name], at) for at in np.flatnonzero(wrong)]
            raise ExamplesError(
                f"{source}: label {clipped(name)}: found {first_few(rows)}; expected {expected} or "
                "nothing; correct these cells, or name another kind"
            )
        if kind != "multilabel" and labels[name].nunique() < 2:
            raise ExamplesError(
                f"{source}: label {clipped(name)} has {labels[name].nunique()} value, so that "
                "there is nothing to tell apart; leave it out"
            )
    return labels, tuple(columns)


def _read_classes(values: pd.Series, source: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    words = values.astype("string").str.strip().mask(is_blank(values))
    classes = tuple(sorted(words.dropna().unique()))
    if len(classes) < 2:
        raise ExamplesError(
            f"{source}: label {clipped(values.name)} has {len(classes)} class; expected two or more"
        )
    numbers = words.map({name: float(at) for at, name in enumerate(classes)})
    return pd.DataFrame({CLASS: numbers.to_numpy(np.float64, na_value=np.nan)}), classes
