"""Values of a written table that cannot be, each said by record, row and column."""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

_FAULTS_SHOWN = 5


def value_faults(
    table: pa.Table, column: str, wrong: np.ndarray, expected: str, rows: np.ndarray | None = None
) -> Iterator[str]:
    """Yields a phrase for every wrong value of a column.

    Args:
        table: With a column record.
        column: The column, of values or of lists of them.
        wrong: bool, for each value; of lists, for each value of all lists, one after the other.
        expected: What a value can be.
        rows: Of lists, the row of each value.
    """
    values = table.column(column).combine_chunks()
    values = values if rows is None else values.flatten()
    for at in np.flatnonzero(wrong):
        row = int(at if rows is None else rows[at])
        yield (
            f"record {table.column('record')[row].as_py()!r} (row {row}), column {column}: found "
            f"{values[int(at)].as_py()!r}, expected {expected}"
        )


def require_none(faults: Iterable[str]) -> None:
    """Raises ValueError of the first faults and the number of the others, where there are any."""
    faults = list(faults)
    if faults:
        more = len(faults) - _FAULTS_SHOWN
        raise ValueError(
            "; ".join(faults[:_FAULTS_SHOWN]) + (f"; and {more} more" if more > 0 else "")
        )


def floats(table: pa.Table, column: str) -> np.ndarray:
    """Returns a column of numbers as float32, NaN where there is nothing."""
    return table.column(column).to_pandas().to_numpy(np.float32, na_value=np.nan)
