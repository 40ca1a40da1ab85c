"""What a set of shards leaves out, and why: `rejected.csv` and `notes.csv`."""

import csv
import dataclasses
import enum
from collections.abc import Iterable, Sequence

from clef_jax.files import replacing


class RejectionKind(enum.StrEnum):
    """Why a recording, or a window of one, is not in the shards."""

    UNSUPPORTED = "unsupported format"
    UNREADABLE = "unreadable"
    FAILED = "failed"
    OUTSIDE = "outside the records folder"
    UNUSABLE_RATE = "unusable rate"
    TOO_SHORT = "too short"
    MISSING_LEADS = "missing leads"
    BAD_LEADS = "bad leads"
    DUPLICATE_RECORD = "duplicate record"
    DUPLICATE_STUDY = "duplicate study"
    DUPLICATE_SAMPLES = "duplicate samples"


class NoteKind(enum.StrEnum):
    """What is not in the shards of a recording that is, or of a file that is none."""

    FIRST_WINDOW_ONLY = "first window only"
    OUTSIDE_MONTAGE = "leads outside the montage"
    NO_ECG = "channels that are no ECG"
    BAD_LEADS = "bad leads"
    TABLE = "tables"


@dataclasses.dataclass(frozen=True)
class Rejected:
    """A line of `rejected.csv`.

    Attributes:
        record: The recording's name.
        file: Its file; of a WFDB record its path without suffix.
        start_s: Where what is left out begins, a window or the rest of a recording that breaks off;
            None for all of the recording.
        kind: Why, in a word.
        reason: Why, in full.
    """

    record: str
    file: str
    start_s: float | None
    kind: RejectionKind
    reason: str


@dataclasses.dataclass(frozen=True)
class Note:
    """A line of `notes.csv`.

    Attributes:
        record: The recording's name.
        kind: What is left out, in a word.
        note: What is left out, in full.
    """

    record: str
    kind: NoteKind
    note: str


def write_rejected(path: str, lines: Iterable[Rejected]) -> None:
    """Writes lines of `rejected.csv`, whole or not at all."""
    rows = [
        dataclasses.astuple(line)
        if line.start_s is None
        else (line.record, line.file, f"{line.start_s:.3f}", line.kind, line.reason)
        for line in lines
    ]
    _write(path, [field.name for field in dataclasses.fields(Rejected)], rows)


def read_rejected(path: str) -> list[Rejected]:
    """Reads what `write_rejected` wrote."""
    return [
        Rejected(record, file, float(start) if start else None, RejectionKind(kind), reason)
        for record, file, start, kind, reason in _read(path)
    ]


def write_notes(path: str, lines: Iterable[Note]) -> None:
    """Writes lines of `notes.csv`, whole or not at all."""
    rows = [dataclasses.astuple(line) for line in lines]
    _write(path, [field.name for field in dataclasses.fields(Note)], rows)


def read_notes(path: str) -> list[Note]:
    """Reads what `write_notes` wrote."""
    return [Note(record, NoteKind(kind), note) for record, kind, note in _read(path)]


def _write(path: str, header: Sequence[str], rows: Iterable[Sequence[str | None]]) -> None:
    # A file's name need not be text.
    with (
        replacing(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8", errors="backslashreplace") as stream,
    ):
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(rows)


def _read(path: str) -> list[list[str]]:
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.reader(stream))[1:]
