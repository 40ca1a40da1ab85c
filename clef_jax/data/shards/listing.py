"""The list of recordings in a folder, or of those that a table names."""

import dataclasses
import os
import posixpath

import pandas as pd

from clef_jax.data.recordings.folders import is_text, search_folder
from clef_jax.data.recordings.formats import expected_files, without_suffix
from clef_jax.data.recordings.recording import Hints
from clef_jax.data.shards.left_out import Note, NoteKind, Rejected, RejectionKind
from clef_jax.tables.columns import TableError, find_column
from clef_jax.tables.files import read_table
from clef_jax.tables.matching import PATIENT_COLUMNS, STUDY_COLUMNS, identifiers


@dataclasses.dataclass(frozen=True)
class Listing:
    """The recordings to write.

    Attributes:
        records: In the order found: record (the path below the folder, without suffix), file (the
            same with its suffix, if it has one), patient and study (None where unknown).
        rejected: Recordings that are not among them.
        notes: Files that are no recordings.
    """

    records: pd.DataFrame
    rejected: list[Rejected]
    notes: list[Note]


def file_of(path: str, folder: str) -> str:
    """Returns where a file is whose path below the folder has forward slashes."""
    return os.path.join(folder, *path.split("/"))


def list_recordings(
    folder: str, record_list: str | None = None, hints: Hints | None = None
) -> Listing:
    """Lists the recordings to write.

    Args:
        folder: The records folder.
        record_list: CSV with a column path (relative to `folder`), and subject_id and study_id
            where known; every recording in and below the folder when None, as of `search_folder`.
        hints: As of `search_folder`.

    Raises:
        TableError: There is nothing to list, a column is missing, or a path leaves the folder.
        OSError: A folder cannot be listed now.
    """
    if not os.path.isdir(folder):
        raise TableError(f"{folder}: no such folder; --records expects the folder of recordings")
    if record_list is None:
        return _search(folder, hints)
    records, rejected = _without_duplicates(_read_list(folder, record_list), folder)
    return Listing(records, rejected, [])


def _search(folder: str, hints: Hints | None) -> Listing:
    found, passed_over = search_folder(folder, hints)
    rejected, rows = [], []
    for one in found:
        if is_text(one.path):
            file = os.path.relpath(one.path, folder).replace(os.sep, "/")
            rows.append((one.name, file, None, None))
        else:
            reason = "unreadable: its name is no UTF-8; rename it"
            rejected.append(Rejected(one.name, one.path, None, RejectionKind.UNREADABLE, reason))
    if not rows:
        raise TableError(f"{folder}: holds no recording; {expected_files()}; check --records")
    records = pd.DataFrame(rows, columns=["record", "file", "patient", "study"])
    records, duplicates = _without_duplicates(records, folder)
    rejected += [
        Rejected(file.name, file.path, None, RejectionKind.UNSUPPORTED, file.reason)
        for file in passed_over
        if not file.is_table
    ]
    notes = [Note(file.name, NoteKind.TABLE, file.reason) for file in passed_over if file.is_table]
    return Listing(records, rejected + duplicates, notes)


def _read_list(folder: str, record_list: str) -> pd.DataFrame:
    table = read_table(record_list)
    column = find_column(table, ("path",), None, record_list, required="a record's path")
    given = table[column].fillna("").astype(str)
    files = [posixpath.normpath(path.strip().replace("\\", "/")) for path in given]
    for number, (file, path) in enumerate(zip(files, table[column], strict=True), start=2):
        if posixpath.isabs(file) or file.split("/")[0] in ("..", ".", ""):
            raise TableError(
                f"{record_list}: line {number}: path {path!r} leaves the records folder {folder}; "
                "refused: give paths relative to --records, without '..'"
            )
    records = pd.DataFrame({"record": [without_suffix(file) for file in files], "file": files})
    for field, columns in (("patient", PATIENT_COLUMNS), ("study", STUDY_COLUMNS)):
        column = find_column(table, columns, None, record_list)
        records[field] = identifiers(table[column]) if column else None
    return records


def _without_duplicates(records: pd.DataFrame, folder: str) -> tuple[pd.DataFrame, list[Rejected]]:
    rejected: list[Rejected] = []
    for field, kind in (
        ("record", RejectionKind.DUPLICATE_RECORD),
        ("study", RejectionKind.DUPLICATE_STUDY),
    ):
        known = records[records[field].notna()].drop_duplicates(field)
        first = dict(zip(known[field], known["file"], strict=True))
        again = records[field].notna() & records[field].duplicated()
        for row in records[again].itertuples(index=False):
            value = getattr(row, field)
            reason = f"{kind}: {field} {value} is already {first[value]}"
            if kind is RejectionKind.DUPLICATE_RECORD and row.file != first[value]:
                reason += "; rename one of the files, or list the one that is meant"
            file = file_of(row.file, folder)
            rejected.append(Rejected(row.record, file, None, kind, reason))
        records = records[~again]
    return records.reset_index(drop=True), rejected
