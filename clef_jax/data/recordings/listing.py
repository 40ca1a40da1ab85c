"""The list of recordings in a folder, or of those that a table names."""

import os
import posixpath

import pandas as pd

from clef_jax.data.recordings.folders import search_folder
from clef_jax.data.recordings.formats import expected_files
from clef_jax.tables.columns import TableError, find_column
from clef_jax.tables.files import read_table
from clef_jax.tables.matching import (
    PATIENT_COLUMNS,
    STUDY_COLUMNS,
    identifiers,
    record_name,
)


def list_recordings(
    folder: str, record_list: str | None = None
) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """Lists the recordings to ingest.

    Args:
        folder: The records folder.
        record_list: CSV with a column path (relative to `folder`), and subject_id and study_id
            where known; every WFDB record in and below the folder when None.

    Returns:
        A table of record (path relative to the folder, without suffix), patient and study (None
        where unknown), in the order found; and (record, reason) of those left out as duplicates.

    Raises:
        TableError: There is nothing to list, a column is missing, or a path leaves the folder.
        OSError: A folder cannot be listed now.
    """
    if not os.path.isdir(folder):
        raise TableError(f"{folder}: no such folder; --records expects the folder of recordings")
    if record_list is None:
        names = [found.name for found in search_folder(folder)[0]]
        if not names:
            raise TableError(f"{folder}: holds no recording; {expected_files()}; check --records")
        return pd.DataFrame({"record": names, "patient": None, "study": None}), []
    table = read_table(record_list)
    column = find_column(table, ("path",), None, record_list, required="a record's path")
    names = [record_name(value) for value in table[column].fillna("").astype(str)]
    for number, (name, given) in enumerate(zip(names, table[column], strict=True), start=2):
        if posixpath.isabs(name) or name.split("/")[0] in ("..", ".", ""):
            raise TableError(
                f"{record_list}: line {number}: path {given!r} leaves the records folder {folder}; "
                "refused: give paths relative to --records, without '..'"
            )
    records = pd.DataFrame({"record": names})
    for field, columns in (("patient", PATIENT_COLUMNS), ("study", STUDY_COLUMNS)):
        column = find_column(table, columns, None, record_list)
        records[field] = identifiers(table[column]) if column else None
    return _without_duplicates(records)


def _without_duplicates(records: pd.DataFrame) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    rejected: list[tuple[str, str]] = []
    for field in ("record", "study"):
        known = records[records[field].notna()].drop_duplicates(field)
        first = dict(zip(known[field], known["record"], strict=True))
        again = records[field].notna() & records[field].duplicated()
        for name, value in zip(records["record"][again], records[field][again], strict=True):
            rejected.append((name, f"duplicate study: {field} {value} is already {first[value]}"))
        records = records[~again]
    return records.reset_index(drop=True), rejected
