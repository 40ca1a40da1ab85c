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
    REJECTED,
    manifest_entry,
    signed,
)
from clef_jax.data.shards.index import INDEX_SCHEMA
from clef_jax.data.shards.plan import IngestError
from clef_jax.data.shards.task import (
    file_of,
    read_facts,
    read_part,
    read_rejections,
    write_rejections,
)
from clef_jax.data.signals.montage import ECG
from clef_jax.files import replacing, write_json


def merge_parts(
    out: str,
    n_shards: int,
    left_out: list[tuple[str, str]],
    records_folder: str,
    plan: dict[str, Any],
    tables: pd.DataFrame,
    validation_fraction: float,
) -> tuple[dict[str, Any], pa.Table]:
    """Writes index, annotations, rejections and, last, the manifest.

    Of records with the same samples the first is kept.

    Args:
        out: Folder of the shards, all finished.
        n_shards: How many.
        left_out: (record, reason) of records that were not planned.
        records_folder: Where the records are.
        plan: What the shards were made from.
        tables: What tables say of each planned record, see `annotation_table`.
        validation_fraction: Share of the patients to hold out.

    Returns:
        The manifest and the annotations.

    Raises:
        IngestError: Every record was rejected.
    """
    entries, duplicates = _without_same_samples(
        pa.concat_tables([read_part(out, shard) for shard in range(n_shards)])
    )
    rejected = [(name, file_of(name, records_folder), why) for name, why in left_out]
    for shard in range(n_shards):
        rejected += read_rejections(out, shard)
    rejected += [(name, file_of(name, records_folder), why) for name, why in duplicates]
    rejected_path = os.path.join(out, REJECTED)
    write_rejections(rejected_path, rejected)
    if not entries.num_rows:
        raise IngestError(f"{rejected_path}: every record was rejected; see there why")
    headers = entries.select(["record", "patient", "age", "sex"]).to_pandas()
    annotations = annotation_table(headers, tables, validation_fraction)
    index_path, annotations_path = os.path.join(out, INDEX), os.path.join(out, ANNOTATIONS)
    for path, table in (
        (index_path, entries.select(INDEX_SCHEMA.names)),
        (annotations_path, annotations),
    ):
        with replacing(path) as temporary:
            pq.write_table(table, temporary)
    facts = [read_facts(out, shard) for shard in range(n_shards)]
    manifest = {
        "format_version": FORMAT_VERSION,
        "preprocessing": plan["preprocessing"],
        "montage": ECG.to_dict(),
        "plan": plan,
        "records": entries.num_rows,
        "patients": pc.count_distinct(entries.column("patient")).as_py(),
        "rejected": dict(Counter(reason.split(":")[0] for _, _, reason in rejected)),
        "patients_from_records": sum(f["patients_from_records"] for f in facts),
        "einthoven_violations": sum(f["einthoven_violations"] for f in facts),
        "spiky_records": sum(f["spiky_records"] for f in facts),
        "files": [
            *({key: f[key] for key in ("file", "bytes", "sha256")} for f in facts),
            manifest_entry(index_path, INDEX),
            manifest_entry(annotations_path, ANNOTATIONS),
            manifest_entry(rejected_path, REJECTED),
        ],
    }
    write_json(os.path.join(out, MANIFEST), signed(manifest))
    return manifest, annotations


def _without_same_samples(entries: pa.Table) -> tuple[pa.Table, list[tuple[str, str]]]:
    content = entries.column("content").to_pandas()
    again = content.duplicated().to_numpy()
    duplicates = []
    if again.any():
        names = entries.column("record").to_pandas()
        first = names.groupby(content).first()
        duplicates = [
            (name, f"duplicate samples: identical to {first[value]}")
            for name, value in zip(names[again], content[again], strict=True)
        ]
    return entries.filter(pa.array(~again)), duplicates
