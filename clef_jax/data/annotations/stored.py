"""The annotations that lie beside a shard set's index: one row a record, in Parquet.

Sets of format 1 have the same columns in the index itself.
"""

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from clef_jax.data.annotations.annotations import Annotations
from clef_jax.data.annotations.splits import split_by_hash
from clef_jax.tables.faults import floats, require_none, value_faults

ANNOTATION_SCHEMA = pa.schema(
    [
        ("record", pa.string()),
        ("risk", pa.float32()),
        ("completeness", pa.float32()),
        ("age", pa.float32()),
        ("sex", pa.string()),
        ("split", pa.string()),
    ]
)


def annotation_table(
    headers: pd.DataFrame, tables: pd.DataFrame, validation_fraction: float
) -> pa.Table:
    """Returns what tables say of records and, where they say nothing, what recordings do.

    Args:
        headers: record, patient, age and sex of each entry, as the recordings say.
        tables: record, risk, completeness, age and sex of these records and perhaps others.
        validation_fraction: Share of the patients to hold out.
    """
    headers = headers.drop_duplicates("record").set_index("record")
    told = tables.set_index("record").loc[headers.index]
    held_out = split_by_hash(headers["patient"].to_numpy(object), validation_fraction)
    columns = {
        "record": headers.index,
        "risk": told["risk"],
        "completeness": told["completeness"],
        "age": told["age"].where(told["age"].notna(), headers["age"]),
        "sex": told["sex"].where(told["sex"].notna(), headers["sex"]),
        "split": np.where(held_out, "validation", "train"),
    }
    arrays = [
        pa.array(columns[field.name], field.type, from_pandas=True) for field in ANNOTATION_SCHEMA
    ]
    return pa.Table.from_arrays(arrays, schema=ANNOTATION_SCHEMA)


def read_annotations(source: str | BinaryIO, record: np.ndarray) -> Annotations:
    """Reads and checks annotations.

    Args:
        source: What `annotation_table` returned, as Parquet that Arrow takes; or the index of a set
            of format 1.
        record: object `[n]`, the record of each row of the index.

    Raises:
        ValueError: Values that nothing can have, or a record without any: which records and
            columns, what was found and what expected.
        OSError: It cannot be read.
    """
    table = pq.read_table(source, schema=ANNOTATION_SCHEMA)
    require_none(_faults(table))
    known = pd.Index(table.column("record").to_numpy())
    rows = known.get_indexer(record)
    if (rows < 0).any():
        raise ValueError(f"record {record[rows.argmin()]!r} of the index has no row here")
    sex = table.column("sex").to_numpy()
    male = np.select([sex == "male", sex == "female"], [1.0, 0.0], np.nan).astype(np.float32)
    columns = {name: floats(table, name) for name in ("risk", "completeness", "age")}
    columns["male"] = male
    return Annotations(
        columns={name: values[rows] for name, values in columns.items()},
        is_validation=(table.column("split").to_numpy() == "validation")[rows],
    )


def _faults(table: pa.Table) -> Iterator[str]:
    """Yields a phrase for every impossible value."""
    again = pd.Series(table.column("record").to_numpy()).duplicated().to_numpy()
    yield from value_faults(table, "record", again, "each record once")
    for name, most, meaning in (
        ("risk", 100, "percent from 0 to 100"),
        ("completeness", 1, "a share from 0 to 1"),
        ("age", 150, "years from 0 to 150"),
    ):
        values = floats(table, name)
        wrong = (values < 0) | (values > most)
        yield from value_faults(table, name, wrong, f"{meaning}, or nothing")
    for name, words in (("sex", ("female", "male", None)), ("split", ("train", "validation"))):
        wrong = ~np.isin(table.column(name).to_numpy().astype(object), np.array(words, object))
        yield from value_faults(
            table, name, wrong, " or ".join(word or "nothing" for word in words)
        )
