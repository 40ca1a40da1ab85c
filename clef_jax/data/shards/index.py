"""The index of a shard set: one row per record, read into arrays and checked value by value."""

import dataclasses
import os
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clef_jax.data.signals.montage import Montage

INDEX_SCHEMA = pa.schema(
    [
        ("record", pa.string()),
        ("patient", pa.string()),
        ("study", pa.string()),
        ("leads", pa.list_(pa.string())),
        ("scale_mv", pa.list_(pa.float32())),
        ("shard", pa.int32()),
        ("first_entry", pa.int64()),
        ("risk", pa.float32()),
        ("completeness", pa.float32()),
        ("age", pa.float32()),
        ("sex", pa.string()),
        ("split", pa.string()),
    ]
)

# mV per step: a sample of 1 V. Recorders saturate at 5 to 330 mV.
_LARGEST_SCALE_MV = 1000 / 32767
_FAULTS_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Index:
    """The index's columns as arrays of n rows; for their meaning see `ShardSet`."""

    record: np.ndarray
    patient: np.ndarray
    n_leads: np.ndarray
    lead_ids: np.ndarray
    scale_mv: np.ndarray
    shard: np.ndarray
    first_entry: np.ndarray
    risk: np.ndarray
    completeness: np.ndarray
    age: np.ndarray
    male: np.ndarray
    is_validation: np.ndarray


def read_index(path: str | os.PathLike, shards: int, montage: Montage) -> Index:
    """Reads and checks an index.

    Args:
        path: `index.parquet`.
        shards: Number of shard files.
        montage: The set's leads.

    Raises:
        ValueError: Values that no shard set can hold: which records and columns, what was found and
            what expected.
        OSError: It cannot be read.
    """
    table = pq.read_table(path, schema=INDEX_SCHEMA)
    faults = list(_faults(table, shards, montage))
    if faults:
        more = len(faults) - _FAULTS_SHOWN
        raise ValueError(
            "; ".join(faults[:_FAULTS_SHOWN]) + (f"; and {more} more" if more > 0 else "")
        )
    n_leads, lead_ids, scale_mv = _padded_leads(table, montage)
    sex = table.column("sex").to_numpy()
    male = np.where(sex == "male", 1.0, np.where(sex == "female", 0.0, np.nan))
    return Index(
        record=table.column("record").to_numpy(),
        patient=table.column("patient").to_numpy(),
        n_leads=n_leads,
        lead_ids=lead_ids,
        scale_mv=scale_mv,
        shard=table.column("shard").to_numpy(),
        first_entry=table.column("first_entry").to_numpy(),
        risk=_floats(table, "risk"),
        completeness=_floats(table, "completeness"),
        age=_floats(table, "age"),
        male=male.astype(np.float32),
        is_validation=table.column("split").to_numpy() == "validation",
    )


def _faults(table: pa.Table, shards: int, montage: Montage) -> Iterator[str]:
    """Yields a phrase for every impossible value."""
    record = table.column("record").to_numpy()

    def phrases(column, wrong, expected, rows=None):
        values = table.column(column).combine_chunks()
        values = values if rows is None else values.flatten()
        for at in np.flatnonzero(wrong):
            row = at if rows is None else rows[at]
            yield (
                f"record {record[row]!r} (row {row}), column {column}: found "
                f"{values[int(at)].as_py()!r}, expected {expected}"
            )

    yield from phrases("record", _null(table, "record"), "a name")
    yield from phrases("record", pd.Series(record).duplicated().to_numpy(), "each record once")
    yield from phrases("patient", _null(table, "patient"), "an identifier")
    sizes = [pc.list_value_length(table.column(name)) for name in ("leads", "scale_mv")]
    n_leads, n_scales = (size.to_pandas().to_numpy(np.float64, na_value=np.nan) for size in sizes)
    most = len(montage.leads)
    yield from phrases("leads", ~((n_leads >= 1) & (n_leads <= most)), f"1 to {most} leads")
    yield from phrases("scale_mv", n_scales != n_leads, "one scale for each lead")
    rows = np.repeat(np.arange(len(record)), np.nan_to_num(n_leads).astype(np.int64))
    known = pa.array(montage.leads)
    unknown = ~pc.is_in(table.column("leads").combine_chunks().flatten(), known).to_numpy(
        zero_copy_only=False
    )
    yield from phrases("leads", unknown, f"leads of {', '.join(montage.leads)}", rows)
    rows = np.repeat(np.arange(len(record)), np.nan_to_num(n_scales).astype(np.int64))
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
    yield from phrases("first_entry", ~(entry >= 0), "0 or more")
    for name, most, meaning in (
        ("risk", 100, "percent from 0 to 100"),
        ("completeness", 1, "a share from 0 to 1"),
        ("age", 150, "years from 0 to 150"),
    ):
        values = _floats(table, name)
        yield from phrases(name, (values < 0) | (values > most), f"{meaning}, or nothing")
    for name, words in (("sex", ("female", "male", None)), ("split", ("train", "validation"))):
        wrong = ~np.isin(table.column(name).to_numpy().astype(object), np.array(words, object))
        yield from phrases(name, wrong, " or ".join(word or "nothing" for word in words))


def _null(table: pa.Table, column: str) -> np.ndarray:
    return table.column(column).is_null().to_numpy()


def _floats(table: pa.Table, column: str) -> np.ndarray:
    return table.column(column).to_pandas().to_numpy(np.float32, na_value=np.nan)


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
