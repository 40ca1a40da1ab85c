"""The index of a shard set: one row per entry, read into arrays and checked value by value."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clef_jax.data.signals.montage import Montage
from clef_jax.tables.faults import require_none, value_faults

INDEX_SCHEMA = pa.schema(
    [
        ("record", pa.string()),
        ("patient", pa.string()),
        ("study", pa.string()),
        ("leads", pa.list_(pa.string())),
        ("scale_mv", pa.list_(pa.float32())),
        ("shard", pa.int32()),
        ("first_entry", pa.int64()),
        ("start_s", pa.float32()),
    ]
)

# mV per step: a sample of 1 V. Recorders saturate at 5 to 330 mV.
_LARGEST_SCALE_MV = 1000 / 32767
# In one shard, 10 TB of leads of ten seconds; the reader numbers entries by 31 bits.
_MOST_ENTRIES = 1 << 30


@dataclasses.dataclass(frozen=True)
class Index:
    """The index's columns as arrays of n rows; for their meaning see `ShardSet`."""

    record: np.ndarray
    patient: np.ndarray
    study: np.ndarray
    n_leads: np.ndarray
    lead_ids: np.ndarray
    scale_mv: np.ndarray
    shard: np.ndarray
    first_entry: np.ndarray
    start_s: np.ndarray


def read_index(source: str | BinaryIO, shards: int, montage: Montage) -> Index:
    """Reads and checks an index, of either format.

    Args:
        source: `index.parquet`, as Arrow takes it.
        shards: Number of shard files.
        montage: The set's leads.

    Raises:
        ValueError: Values that no shard set can hold: which records and columns, what was found and
            what expected.
        OSError: It cannot be read.
    """
    table = pq.read_table(source, schema=INDEX_SCHEMA)
    require_none(_faults(table, shards, montage))
    n_leads, lead_ids, scale_mv = _padded_leads(table, montage)
    return Index(
        record=table.column("record").to_numpy(),
        patient=table.column("patient").to_numpy(),
        study=table.column("study").to_numpy(),
        n_leads=n_leads,
        lead_ids=lead_ids,
        scale_mv=scale_mv,
        shard=table.column("shard").to_numpy(),
        first_entry=table.column("first_entry").to_numpy(),
        start_s=_start_s(table),
    )


def _faults(table: pa.Table, shards: int, montage: Montage) -> Iterator[str]:
    """Yields a phrase for every impossible value."""
    phrases = functools.partial(value_faults, table)
    start_s = _start_s(table)
    entries = pd.DataFrame({"record": table.column("record").to_numpy(), "start_s": start_s})
    again = entries.duplicated().to_numpy()
    yield from phrases("record", _null(table, "record"), "a name")
    yield from phrases("record", again, "each record once, or from several starts")
    yield from phrases("start_s", ~(start_s >= 0), "seconds, 0 or more")
    yield from phrases("patient", _null(table, "patient"), "an identifier")
    sizes = [pc.list_value_length(table.column(name)) for name in ("leads", "scale_mv")]
    n_leads, n_scales = (size.to_pandas().to_numpy(np.float64, na_value=np.nan) for size in sizes)
    most = len(montage.leads)
    yield from phrases("leads", ~((n_leads >= 1) & (n_leads <= most)), f"1 to {most} leads")
    yield from phrases("scale_mv", n_scales != n_leads, "one scale for each lead")
    rows = np.repeat(np.arange(len(entries)), np.nan_to_num(n_leads).astype(np.int64))
    known = pa.array(montage.leads)
    unknown = ~pc.is_in(table.column("leads").combine_chunks().flatten(), known).to_numpy(
        zero_copy_only=False
    )
    yield from phrases("leads", unknown, f"leads of {', '.join(montage.leads)}", rows)
    rows = np.repeat(np.arange(len(entries)), np.nan_to_num(n_scales).astype(np.int64))
    scale = table.column("scale_mv").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    yield from phrases(
        "scale_mv",
        ~((scale > 0) & (scale <= _LARGEST_SCALE_MV)),
        f"above 0 and at most {_LARGEST_SCALE_MV:.4f} mV per step, a sample of 1 V",
        rows,
    )
    shard, entry = (
        table.column(name).to_pandas().to_numpy(np.float64, na_value=np.nan)
        for name in ("shard", "first_entry")
    )
    yield from phrases("shard", ~((shard >= 0) & (shard < shards)), f"0 to {shards - 1}")
    possible = (entry >= 0) & (entry < _MOST_ENTRIES)
    yield from phrases("first_entry", ~possible, f"0 or more, below {_MOST_ENTRIES}")


def _null(table: pa.Table, column: str) -> np.ndarray:
    return table.column(column).is_null().to_numpy()


def _start_s(table: pa.Table) -> np.ndarray:
    """Returns where entries begin; format 1 did not say, as all began with their record."""
    return pc.fill_null(table.column("start_s"), 0).to_numpy()


def _padded_leads(table: pa.Table, montage: Montage) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the ragged lists of leads as counts [n], ids and scales [n, leads of the montage]."""
    names = table.column("leads").combine_chunks()
    counts = np.diff(names.offsets.to_numpy())
    number = {lead: i for i, lead in enumerate(montage.leads)}
    encoded = names.flatten().dictionary_encode()
    ids_of_code = np.array([number[name] for name in encoded.dictionary.to_pylist()], np.int8)
    rows = np.repeat(np.arange(len(counts)), counts)
    slots = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    ids = np.full((len(counts), len(montage.leads)), -1, np.int8)
    scale = np.zeros((len(counts), len(montage.leads)), np.float32)
    if len(rows):
        ids[rows, slots] = ids_of_code[encoded.indices.to_numpy()]
        scale[rows, slots] = table.column("scale_mv").combine_chunks().flatten().to_numpy()
    return counts.astype(np.int8), ids, scale
