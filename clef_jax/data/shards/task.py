"""One shard's share of the plan: written, and found finished by a later run.

A finished shard is its data file, its rejections and, renamed into place last, its part of the
index, which carries what the manifest needs of it.
"""

import csv
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from clef_jax.data.recordings.recording import RecordingError, RecordingUnavailable
from clef_jax.data.shards.format import ShardWriter, manifest_entry, shard_file
from clef_jax.data.shards.index import INDEX_SCHEMA
from clef_jax.data.shards.plan import IngestError, IngestOptions
from clef_jax.data.shards.prepare import PreparedRecord, Rejection, prepare_record
from clef_jax.files import replacing

PARTS = "parts"

_PART_FACTS = b"clef_jax"
# Besides the index: a hash of the samples, and what the header says of the patient.
_PART_SCHEMA = pa.schema(
    [*INDEX_SCHEMA, ("content", pa.binary(16)), ("age", pa.float32()), ("sex", pa.string())]
)
_REJECTED_HEADER = ("record", "file", "reason")


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
    options: IngestOptions
    plan: str


def file_of(record: str, folder: str) -> str:
    """Returns the path of a record, whose name has forward slashes, without suffix."""
    return os.path.join(folder, *record.split("/"))


def write_rejections(path: str, rows: list[tuple[str, str, str]]) -> None:
    """Writes (record, file, reason) of records left out, with a header line."""
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(_REJECTED_HEADER)
        writer.writerows(rows)


def write_shard(task: ShardTask, advance: Callable[[], None]) -> None:
    """Reads the task's records and leaves the shard's three files, data first and part last.

    Args:
        task: What to write.
        advance: Called after each record.

    Raises:
        IngestError: A record could not be read, but perhaps can be later; nothing is left behind.
    """
    rows, rejected = [], []
    own_patients = violations = spiky = 0
    with replacing(os.path.join(task.out, shard_file(task.shard))) as temporary:
        writer = ShardWriter(temporary)
        for row in task.rows.itertuples(index=False):
            try:
                prepared = _prepare(task, row.record)
            except Rejection as why:
                rejected.append((row.record, file_of(row.record, task.records_folder), str(why)))
            else:
                first = writer.write(prepared.steps)
                rows.append(_index_row(task, row, prepared, first))
                own_patients += not isinstance(row.patient, str) and not prepared.header.patient
                violations += prepared.contradicts_einthoven
                spiky += prepared.spiky
            advance()
        writer.close()
        facts = manifest_entry(temporary, shard_file(task.shard)) | {
            "plan": task.plan,
            "patients_from_records": own_patients,
            "einthoven_violations": violations,
            "spiky_records": spiky,
        }
    write_rejections(_rejections_file(task.out, task.shard), rejected)
    part = pa.Table.from_pylist(rows, schema=_PART_SCHEMA)
    part = part.replace_schema_metadata({_PART_FACTS: json.dumps(facts)})
    with replacing(_part_file(task.out, task.shard)) as temporary:
        pq.write_table(part, temporary)


def is_finished(out: str, shard: int, plan: str) -> bool:
    """Says whether an earlier run with the same plan has written a shard, and it is still whole."""
    try:
        facts = read_facts(out, shard)
        size = os.path.getsize(os.path.join(out, facts["file"]))
    except (OSError, pa.ArrowInvalid):
        return False
    return (
        facts["plan"] == plan
        and size == facts["bytes"]
        and os.path.isfile(_rejections_file(out, shard))
    )


def read_facts(out: str, shard: int) -> dict[str, Any]:
    """Returns a finished shard's file, bytes, sha256, plan and counts."""
    return json.loads(pq.read_schema(_part_file(out, shard)).metadata[_PART_FACTS])


def read_part(out: str, shard: int) -> pa.Table:
    """Returns a finished shard's rows of the index, with the columns that parts alone have."""
    return pq.read_table(_part_file(out, shard)).replace_schema_metadata()


def read_rejections(out: str, shard: int) -> list[tuple[str, str, str]]:
    """Returns (record, file, reason) of the records that a finished shard left out."""
    with open(_rejections_file(out, shard), newline="", encoding="utf-8") as stream:
        return [(record, file, reason) for record, file, reason in list(csv.reader(stream))[1:]]


def _part_file(out: str, shard: int) -> str:
    return os.path.join(out, PARTS, f"part-{shard:05d}.parquet")


def _rejections_file(out: str, shard: int) -> str:
    return os.path.join(out, PARTS, f"rejected-{shard:05d}.csv")


def _prepare(task: ShardTask, record: str) -> PreparedRecord:
    file = file_of(record, task.records_folder)
    try:
        return prepare_record(
            file,
            task.options.spec,
            confine_to=task.records_folder if task.confine else None,
            min_leads=task.options.min_leads,
            adu_per_mv=task.options.adu_per_mv,
            quality=task.options.quality,
        )
    except Rejection:
        raise
    except RecordingUnavailable as error:
        raise IngestError(
            f"{error}: run the same command again, finished shards are kept. A file that never "
            "becomes readable can be replaced by an empty one, which is then rejected"
        ) from error
    except MemoryError as error:
        raise IngestError(
            f"{file}: not enough memory to read it ({error}); run the same command again with "
            "fewer --workers, finished shards are kept"
        ) from error
    except RecordingError as error:
        raise Rejection(f"unreadable: {error}") from error
    except Exception as error:
        # Among 800,000 files some are broken in ways nobody foresaw: report, go on.
        raise Rejection(f"failed: {type(error).__name__}: {error}") from error


def _index_row(task: ShardTask, row, prepared: PreparedRecord, first_entry: int) -> dict[str, Any]:
    header = prepared.header
    return {
        "record": row.record,
        "patient": row.patient if isinstance(row.patient, str) else header.patient or row.record,
        "study": row.study if isinstance(row.study, str) else None,
        "leads": list(prepared.leads),
        "scale_mv": prepared.scale_mv.tolist(),
        "shard": task.shard,
        "first_entry": first_entry,
        "start_s": 0.0,
        "content": hashlib.blake2b(prepared.steps, digest_size=16).digest(),
        "age": header.age,
        "sex": header.sex,
    }
