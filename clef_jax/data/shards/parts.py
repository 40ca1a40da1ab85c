"""What each finished shard leaves for the merge, in the folder `parts`.

Beside the data file: its rejections, its notes and, renamed into place last, its part of the index,
which carries what the manifest needs of it.
"""

import json
import os
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clef_jax.data.shards.index import INDEX_SCHEMA
from clef_jax.data.shards.left_out import (
    Note,
    Rejected,
    read_notes,
    read_rejected,
    write_notes,
    write_rejected,
)
from clef_jax.files import replacing

PARTS = "parts"

_FACTS = b"clef_jax"
# Besides the index: the recording's file, a hash of the samples, and what the header says of the
# patient.
_SCHEMA = pa.schema(
    [
        *INDEX_SCHEMA,
        ("file", pa.string()),
        ("content", pa.binary(16)),
        ("age", pa.float32()),
        ("sex", pa.string()),
    ]
)


def write_part(
    out: str,
    shard: int,
    rows: list[dict[str, Any]],
    rejected: list[Rejected],
    notes: list[Note],
    facts: dict[str, Any],
) -> None:
    """Writes what a shard leaves besides its data, which must be there already.

    Args:
        out: Folder of the shards.
        shard: Its number.
        rows: Of the index, with the columns that parts alone have.
        rejected: What it leaves out.
        notes: What it leaves out of recordings that it holds.
        facts: As `read_facts` returns them.
    """
    write_rejected(_file(out, "rejected", shard, "csv"), rejected)
    write_notes(_file(out, "notes", shard, "csv"), notes)
    part = pa.Table.from_pylist(rows, schema=_SCHEMA)
    part = part.replace_schema_metadata({_FACTS: json.dumps(facts)})
    with replacing(_part_file(out, shard)) as temporary:
        pq.write_table(part, temporary)


def is_finished(out: str, shard: int, plan: str) -> bool:
    """Says whether an earlier run with the same plan has written a shard, and it is still whole."""
    try:
        facts = read_facts(out, shard)
        size = os.path.getsize(os.path.join(out, facts["file"]))
    except (OSError, pa.ArrowInvalid):
        return False
    lists = (_file(out, name, shard, "csv") for name in ("rejected", "notes"))
    return facts["plan"] == plan and size == facts["bytes"] and all(map(os.path.isfile, lists))


def read_facts(out: str, shard: int) -> dict[str, Any]:
    """Returns a finished shard's file, bytes, sha256, plan and counts."""
    return json.loads(pq.read_schema(_part_file(out, shard)).metadata[_FACTS])


def read_part(out: str, shard: int) -> pa.Table:
    """Returns a finished shard's rows of the index, with the columns that parts alone have."""
    return pq.read_table(_part_file(out, shard)).replace_schema_metadata()


def rejected_in(out: str, shard: int) -> list[Rejected]:
    """Returns what a finished shard left out."""
    return read_rejected(_file(out, "rejected", shard, "csv"))


def notes_in(out: str, shard: int) -> list[Note]:
    """Returns what a finished shard left out of the recordings that it holds."""
    return read_notes(_file(out, "notes", shard, "csv"))


def _part_file(out: str, shard: int) -> str:
    return _file(out, "part", shard, "parquet")


def _file(out: str, name: str, shard: int, suffix: str) -> str:
    return os.path.join(out, PARTS, f"{name}-{shard:05d}.{suffix}")
