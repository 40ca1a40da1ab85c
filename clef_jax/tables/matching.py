"""Which row of a table describes which record: by path, by study or by patient."""

import dataclasses
import functools
import os
import posixpath
from collections.abc import Callable

import numpy as np
import pandas as pd

from clef_jax.tables.columns import TableError, normalised

# Column names as `normalised` spells them, the preferred first.
PATH_COLUMNS = (
    "path",
    "filename_hr",
    "filename_lr",
    "filename",
    "file_name",
    "record",
    "record_name",
    "record_id",
    "id",
)
STUDY_COLUMNS = ("study_id", "study")
PATIENT_COLUMNS = ("subject_id", "patient_id", "patient", "subject")

# The most specific first.
_KINDS = {"path": PATH_COLUMNS, "study": STUDY_COLUMNS, "patient": PATIENT_COLUMNS}
_MEANING_ANYTHING = "id"


def identifiers(values: pd.Series) -> np.ndarray:
    """Returns identifiers as text, None where blank; 15709.0, as floats are saved, is 15709."""
    words = values.astype("string").str.strip().str.replace(r"^(\d+)\.0+$", r"\1", regex=True)
    return words.mask(words == "").to_numpy(object, na_value=None)


def match_rows(
    records: pd.DataFrame,
    frame: pd.DataFrame,
    values: pd.DataFrame,
    key_column: str | None,
    folder: str | None,
    source: str,
    *,
    without_suffix: Callable[[str], str],
) -> np.ndarray:
    """Finds for each record the table row that describes it.

    A table may be read by paths and names, by studies and by patients, each in the column that
    finds most records (PTB-XL has a path for each rate). The reading that finds most is taken, of
    equals the most specific. Where another one contradicts it nobody can know which is meant, and
    one of them would give a patient the values of another: an error.

    Args:
        records: Columns record, patient and study, one row per record.
        frame: The table.
        values: What will be taken from it; rows that agree in all of this are as good as one.
        key_column: The column to go by; those of usual names when None.
        folder: The records folder; None where it is not known any more.
        source: The table's file.
        without_suffix: Makes a record's name of the path of its file.

    Returns:
        int64 [records], row numbers, -1 where the table does not know the record.

    Raises:
        TableError: No column fits, rows of one key differ, or two readings contradict each other.
    """
    readings, looked_at = _read_keys(records, frame, key_column, folder, without_suffix)
    if not looked_at:
        raise TableError(
            f"{source}: no column that says whose row it is; found {', '.join(frame.columns)}; "
            "expected a path, record, study or patient column; rename it or name it by an option"
        )
    if not readings:
        first = records.iloc[0]
        raise TableError(
            f"{source}: no row belongs to any of the {len(records)} records. The table's keys: "
            f"{', '.join(dict.fromkeys(looked_at))}. The first record: path {first['record']!r}, "
            f"study {first['study'] or 'unknown'}, patient {first['patient'] or 'unknown'}. Check "
            "that it describes these records, and rename the right column or name it by an option"
        )
    same = values.groupby(list(values.columns), dropna=False, sort=False).ngroup().to_numpy()
    names = records["record"]
    faults = [_fault(reading, names, values, same) for reading in readings]
    sound = [reading for reading, fault in zip(readings, faults, strict=True) if not fault]
    if not sound:
        raise TableError(f"{source}: {faults[0]}")
    best = max(sound, key=lambda reading: reading.coverage)
    for other in readings:
        contradiction = _contradiction(best, other, names, same)
        if contradiction:
            raise TableError(f"{source}: {contradiction}")
    return best.rows


@dataclasses.dataclass(frozen=True)
class _Reading:
    """A column taken as keys of one kind.

    Attributes:
        kind: A key of `_KINDS`.
        column: Its name.
        given: What it holds, object [rows].
        keys: int64 [rows], equal where rows share a key, -1 where blank.
        found: int64 [records], the key of each record, -1 where the table lacks it.
    """

    kind: str
    column: str
    given: np.ndarray
    keys: np.ndarray
    found: np.ndarray

    @property
    def coverage(self) -> int:
        """How many records the table knows."""
        return int(np.count_nonzero(self.found >= 0))

    @functools.cached_property
    def rows(self) -> np.ndarray:
        """The first row of each record's key, int64 [records], -1 for none."""
        known, first = np.unique(self.keys, return_index=True)
        row_of = np.full(known[-1] + 2, -1)
        row_of[known] = first
        row_of[-1] = -1
        return row_of[self.found]


def _read_keys(
    records, frame, key_column, folder, without_suffix
) -> tuple[list[_Reading], list[str]]:
    """Returns the best reading of each kind that finds any record, and what was looked at."""
    studies, unknown = records["study"].astype(object), records["study"].isna()
    studies[unknown] = [name.rsplit("/", 1)[-1] for name in records["record"][unknown]]
    readings, looked_at = [], []
    for kind, names in _KINDS.items():
        best = None
        for column in [key_column] if key_column else frame.columns:
            if not key_column and normalised(column) not in names:
                continue
            given = identifiers(frame[column])
            if kind == "path":
                keys, found = _match_paths(records["record"], given, folder, without_suffix)
            else:
                wanted = studies if kind == "study" else records["patient"]
                keys, found = _match_identifiers(wanted, given)
            reading = _Reading(kind, column, given, keys, found)
            example = next((value for value in given if value is not None), "nothing")
            looked_at.append(f"{column} (such as {example!r})")
            if reading.coverage > (best.coverage if best else 0):
                best = reading
        readings += [best] if best else []
    if key_column and normalised(key_column) != _MEANING_ANYTHING:
        # A column named by the user is what its name says, where so read it finds anything.
        named = [r for r in readings if normalised(key_column) in _KINDS[r.kind]]
        readings = named or readings
    return readings, looked_at


def _match_identifiers(wanted: pd.Series, given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    keys, known = pd.factorize(given)
    return keys, pd.Index(known, dtype=object).get_indexer(identifiers(wanted.astype(object)))


def _match_paths(
    names: pd.Series,
    given: np.ndarray,
    folder: str | None,
    without_suffix: Callable[[str], str],
) -> tuple[np.ndarray, np.ndarray]:
    """Matches where the table's path ends the record's full path, or failing that the reverse.

    So a table may count its paths from above the records folder (records500/00000/00001_hr for a
    record 00000/00001_hr) or give bare names, and paths of another computer still match.
    """
    paths = np.array(
        [
            None if path is None else posixpath.normpath(without_suffix(path.replace("\\", "/")))
            for path in given
        ],
        object,
    )
    keys, known = pd.factorize(paths)
    index = pd.Index(known, dtype=object)
    names = names.to_numpy(object)
    found = np.full(len(names), -1)
    depths = sorted({path.count("/") + 1 for path in known}, reverse=True)
    root = "" if folder is None else f"{_absolute(folder)}/"
    for depth in depths:
        missing = np.flatnonzero(found < 0)
        above = _last_parts(root, depth + 1)
        tails = [_last_parts(above + name, depth) for name in names[missing]]
        found[missing] = index.get_indexer(np.array(tails, object))
    if (found < 0).all():
        below = max(name.count("/") + 1 for name in names)
        short = [None if path is None else _last_parts(path, below) for path in paths]
        keys, known = pd.factorize(np.array(short, object))
        found = pd.Index(known, dtype=object).get_indexer(names)
    return keys, found


def _absolute(folder: str) -> str:
    return posixpath.abspath(os.path.abspath(folder).replace(os.sep, "/"))


def _last_parts(path: str, count: int) -> str:
    return "/".join(path.rsplit("/", count)[-count:])


def _fault(
    reading: _Reading, names: pd.Series, values: pd.DataFrame, same: np.ndarray
) -> str | None:
    """Says why a column cannot be the key: its rows differ, or it fits several records."""
    used = np.flatnonzero(np.isin(reading.keys, reading.found[reading.found >= 0]))
    pairs = pd.DataFrame({"key": reading.keys[used], "value": same[used]}, index=used)
    pairs = pairs.drop_duplicates()
    again = pairs["key"].duplicated().to_numpy()
    if again.any():
        key = pairs["key"].iloc[again.argmax()]
        one, other = pairs.index[pairs["key"] == key][:2]
        return (
            f"{reading.column} {reading.given[one]!r} has rows that differ: "
            f"{values.iloc[one].to_dict()} and {values.iloc[other].to_dict()}; expected one row "
            "for each, or a column that tells recordings apart"
        )
    if reading.kind == "path":
        shared = pd.Series(reading.rows[reading.rows >= 0]).duplicated(keep="first")
        if shared.any():
            row = reading.rows[reading.rows >= 0][shared.to_numpy().argmax()]
            one, other = np.flatnonzero(reading.rows == row)[:2]
            return (
                f"{reading.column} {reading.given[row]!r} fits several records, such as "
                f"{names.iloc[one]} and {names.iloc[other]}; expected paths that tell them apart"
            )
    return None


def _contradiction(
    best: _Reading, other: _Reading, names: pd.Series, same: np.ndarray
) -> str | None:
    """Says for which record the row of `best` is none of those that `other` finds."""
    both = np.flatnonzero((best.rows >= 0) & (other.rows >= 0))
    row, its = best.rows[both], other.rows[both]
    differ = both[(other.keys[row] != other.found[both]) & (same[row] != same[its])]
    if not differ.size:
        return None
    at = differ[0]
    fits = f"record {names.iloc[at]} fits"
    for reading in (best, other):
        row = reading.rows[at]
        fits += f" {reading.column} {reading.given[row]!r} in row {row + 1} as {reading.kind},"
    if best.column == other.column:
        remedy = "rename the column to path, study_id or subject_id, whichever it is"
    else:
        remedy = "name the one to go by with --key_column, for risks with --risk_key_column"
    return f"{fits} and these rows differ; {remedy}"
