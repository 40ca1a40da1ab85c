"""From finished shards to a finished set: index, annotations, rejections, the manifest last."""

import os
from collections import Counter
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clef_jax.data.annotations.stored import annotation_table
from clef_jax.data.shards.format import (
    ANNOTATIONS,
    FORMAT_VERSION,
    INDEX,
    MANIFEST,
    NOTES,
    REJECTED,
    manifest_entry,
    signed,
)
from clef_jax.data.shards.index import INDEX_SCHEMA
from clef_jax.data.shards.left_out import Rejected, RejectionKind, write_notes, write_rejected
from clef_jax.data.shards.listing import Listing, file_of
from clef_jax.data.shards.parts import notes_in, read_facts, read_part, rejected_in
from clef_jax.data.shards.plan import WriteError
from clef_jax.files import replacing, write_json


def merge_parts(
    out: str,
    listing: Listing,
    records_folder: str,
    plan: dict[str, Any],
    tables: pd.DataFrame,
    validation_fraction: float,
) -> tuple[dict[str, Any], pa.Table]:
    """Writes index, annotations, rejections and, last, the manifest.

    Of records with the same samples the first is kept.

    Args:
        out: Folder of the shards, all finished.
        listing: What was planned, and what was not.
        records_folder: Where the records are.
        plan: What the shards were made from.
        tables: What tables say of each planned record, see `annotation_table`.
        validation_fraction: Share of the patients to hold out.

    Returns:
        The manifest and the annotations.

    Raises:
        WriteError: Every record was rejected.
    """
    shards = range(-(-plan["records"] // plan["options"]["records_per_shard"]))
    entries, duplicates = _without_same_samples(
        pa.concat_tables([read_part(out, shard) for shard in shards]), records_folder
    )
    rejected = listing.rejected + [line for shard in shards for line in rejected_in(out, shard)]
    rejected += duplicates
    notes = listing.notes + [line for shard in shards for line in notes_in(out, shard)]
    rejected_path, notes_path = os.path.join(out, REJECTED), os.path.join(out, NOTES)
    write_rejected(rejected_path, rejected)
    write_notes(notes_path, notes)
    if not entries.num_rows:
        raise WriteError(f"{rejected_path}: every record was rejected; see there why")
    headers = entries.select(["record", "patient", "age", "sex"]).to_pandas()
    annotations = annotation_table(headers, tables, validation_fraction)
    index_path, annotations_path = os.path.join(out, INDEX), os.path.join(out, ANNOTATIONS)
    for path, table in (
        (index_path, entries.select(INDEX_SCHEMA.names)),
        (annotations_path, annotations),
    ):
        with replacing(path) as temporary:
            pq.write_table(table, temporary)
    facts = [read_facts(out, shard) for shard in shards]
    manifest = {
        "format_version": FORMAT_VERSION,
        "preprocessing": plan["preprocessing"],
        "montage": plan["montage"],
        "plan": plan,
        "records": entries.num_rows,
        "recordings": pc.count_distinct(entries.column("record")).as_py(),
        "patients": pc.count_distinct(entries.column("patient")).as_py(),
        "rejected": Counter(line.kind for line in rejected),
        "notes": Counter(line.kind for line in notes),
        "patients_from_records": sum(f["patients_from_records"] for f in facts),
        "einthoven_violations": sum(f["einthoven_violations"] for f in facts),
        "spiky_records": sum(f["spiky_records"] for f in facts),
        "files": [
            *({key: f[key] for key in ("file", "bytes", "sha256")} for f in facts),
            manifest_entry(index_path, INDEX),
            manifest_entry(annotations_path, ANNOTATIONS),
            manifest_entry(rejected_path, REJECTED),
            manifest_entry(notes_path, NOTES),
        ],
    }
    write_json(os.path.join(out, MANIFEST), signed(manifest))
    return manifest, annotations


def _without_same_samples(
    entries: pa.Table, records_folder: str
) -> tuple[pa.Table, list[Rejected]]:
    content = entries.column("content").to_pandas()
    again = content.duplicated().to_numpy()
    if not again.any():
        return entries, []
    rows = entries.select(["record", "file", "start_s"]).to_pandas()
    first = rows.groupby(content).first().loc[content[again]]
    duplicates = [
        Rejected(
            row.record,
            file_of(row.file, records_folder),
            row.start_s,
            RejectionKind.DUPLICATE_SAMPLES,
            f"duplicate samples: identical to {same.record}"
            + (f" at {same.start_s:g} s" if same.start_s else ""),
        )
        for row, same in zip(
            rows[again].itertuples(index=False), first.itertuples(index=False), strict=True
        )
    ]
    return entries.filter(pa.array(~again)), duplicates
