"""One shard's share of the plan: its recordings read and written."""

import collections
import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from clef_jax.data.recordings.recording import Header, RecordingError, RecordingUnavailable
from clef_jax.data.shards.format import ShardWriter, manifest_entry, shard_file
from clef_jax.data.shards.left_out import Note, NoteKind, Rejected, RejectionKind
from clef_jax.data.shards.listing import file_of
from clef_jax.data.shards.parts import write_part
from clef_jax.data.shards.plan import WriteError, WriteOptions
from clef_jax.data.shards.prepare import (
    BadWindow,
    PreparedRecord,
    PreparedWindow,
    Rejection,
    prepare_record,
)
from clef_jax.files import replacing


@dataclasses.dataclass(frozen=True)
class ShardTask:
    """What a worker needs to write one shard.

    Attributes:
        shard: Its number.
        rows: Its records, with patient and study where tables know them.
        records_folder: Where they are.
        confine: Whether to refuse files that lie elsewhere.
        out: Folder of the shards.
        options: What to keep and how.
        plan: The plan's fingerprint.
    """

    shard: int
    rows: pd.DataFrame
    records_folder: str
    confine: bool
    out: str
    options: WriteOptions
    plan: str


class _Contents:
    """What a shard holds so far: rows of its part, what is left out, and counts of recordings."""

    def __init__(self):
        self.rows: list[dict[str, Any]] = []
        self.rejected: list[Rejected] = []
        self.notes: list[Note] = []
        self.counts = dict.fromkeys(
            ("patients_from_records", "einthoven_violations", "spiky_records"), 0
        )


def write_shard(task: ShardTask, advance: Callable[[], None]) -> None:
    """Reads the task's records and leaves the shard's files, data first and part last.

    Args:
        task: What to write.
        advance: Called after each record.

    Raises:
        WriteError: A record could not be read, but perhaps can be later; nothing is left behind.
    """
    contents = _Contents()
    with replacing(os.path.join(task.out, shard_file(task.shard))) as temporary:
        writer = ShardWriter(temporary)
        for row in task.rows.itertuples(index=False):
            _write_record(task, row, writer, contents)
            advance()
        writer.close()
        facts = manifest_entry(temporary, shard_file(task.shard))
    facts |= {"plan": task.plan} | contents.counts
    write_part(task.out, task.shard, contents.rows, contents.rejected, contents.notes, facts)


def _write_record(task: ShardTask, row, writer: ShardWriter, contents: _Contents) -> None:
    """Adds a record's windows to the shard and to its contents."""
    bad_leads: list[Mapping[str, str]] = []
    contradicts = spiky = False
    for prepared, window in _read(task, row, contents):
        first = writer.write(window.steps)
        contents.rows.append(_part_row(task, row, prepared.header, window, first))
        bad_leads.append(window.bad_leads)
        contradicts |= window.contradicts_einthoven
        spiky |= window.spiky
    if not bad_leads:
        return
    counts = contents.counts
    counts["patients_from_records"] += not (isinstance(row.patient, str) or prepared.header.patient)
    counts["einthoven_violations"] += contradicts
    counts["spiky_records"] += spiky
    contents.notes += [Note(row.record, kind, note) for kind, note in prepared.notes]
    if note := _describe(bad_leads):
        contents.notes.append(Note(row.record, NoteKind.BAD_LEADS, note))


def _read(
    task: ShardTask, row, contents: _Contents
) -> Iterator[tuple[PreparedRecord, PreparedWindow]]:
    """Yields a record's good windows; the bad ones, and why it ends early, go to the contents."""
    file = file_of(row.file, task.records_folder)
    begun, rest_s = "", None  # Where the rest begins, once there is a window before it.

    def reject(kind: RejectionKind, reason: str, start_s: float | None = None) -> None:
        contents.rejected.append(Rejected(row.record, file, start_s, kind, reason))

    try:
        confine_to = task.records_folder if task.confine else None
        prepared = prepare_record(file, task.options, confine_to=confine_to)
        later = iter(prepared.starts_s[1:])
        for window in prepared.windows:
            begun, rest_s = f" after the window at {window.start_s:g} s", next(later, None)
            if isinstance(window, BadWindow):
                reject(window.why.kind, str(window.why), window.start_s)
            else:
                yield prepared, window
    except Rejection as why:
        reject(why.kind, str(why))
    except RecordingUnavailable as error:
        raise WriteError(
            f"{error}: run the same command again, finished shards are kept. A file that never "
            "becomes readable can be replaced by an empty one, which is then rejected"
        ) from error
    except MemoryError as error:
        raise WriteError(
            f"{file}: not enough memory to read it ({error}); run the same command again with "
            "fewer --workers, finished shards are kept"
        ) from error
    except RecordingError as error:
        reject(RejectionKind.UNREADABLE, f"unreadable{begun}: {error}", rest_s)
    except Exception as error:
        # Among 800,000 files some are broken in ways nobody foresaw: report, go on.
        reason = f"failed{begun}: {type(error).__name__}: {error}"
        reject(RejectionKind.FAILED, reason, rest_s)


def _describe(bad_leads: Iterable[Mapping[str, str]]) -> str:
    """Says which leads with which faults a record's windows lack."""
    faults = collections.defaultdict(list)
    for of_window in bad_leads:
        for lead, fault in of_window.items():
            faults[lead].append(fault)
    return "; ".join(
        f"{lead} {of_lead[0]}"
        + (f", and in {len(of_lead) - 1} more windows" if len(of_lead) > 1 else "")
        for lead, of_lead in faults.items()
    )


def _part_row(
    task: ShardTask, row, header: Header, window: PreparedWindow, first_entry: int
) -> dict[str, Any]:
    return {
        "record": row.record,
        "patient": row.patient if isinstance(row.patient, str) else header.patient or row.record,
        "study": row.study if isinstance(row.study, str) else None,
        "leads": list(window.leads),
        "scale_mv": window.scale_mv.tolist(),
        "shard": task.shard,
        "first_entry": first_entry,
        "start_s": window.start_s,
        "file": row.file,
        "content": hashlib.blake2b(window.steps.data, digest_size=16).digest(),
        "age": header.age,
        "sex": header.sex,
    }
