"""Tables of people in files: CSV, TSV, Excel, Parquet."""

import functools
import os
import pathlib

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from clef_jax.files import replacing
from clef_jax.tables.columns import TableError

READABLE = (".csv", ".tsv", ".txt", ".xlsx", ".parquet")


def read_table(path: str | os.PathLike, *, header: bool = True) -> pd.DataFrame:
    """Reads a table; of all but Parquet every cell as text, so that ids keep their zeros.

    Text may be separated by commas, semicolons or tabs: whichever the first line has most of.

    Args:
        path: A .csv, .tsv, .txt, .xlsx (its first sheet) or .parquet file.
        header: Whether the first line of text names the columns; else their numbers do, from "0".

    Raises:
        TableError: It is not there, of another kind, or unreadable.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise TableError(f"{path}: no such file.")
    suffix = path.suffix.lower()
    if suffix not in READABLE:
        raise TableError(f"{path}: tables are {', '.join(READABLE)} files.")
    try:
        table = _READERS[suffix](path) if suffix in _READERS else _read_text(path, header)
    except ImportError as error:
        raise TableError(
            f"{path}: Excel files need openpyxl: pip install 'clef-jax[formats]'; or save it as CSV"
        ) from error
    except UnicodeDecodeError as error:
        raise TableError(
            f"{path} cannot be read as a table: it is not text in UTF-8 ({error.reason} at byte "
            f"{error.start:,}); save it as CSV UTF-8"
        ) from error
    except (MemoryError, TableError):
        raise
    except Exception as error:  # The formats' libraries may raise anything of a damaged file.
        raise TableError(
            f"{path} cannot be read as a table: {type(error).__name__}: {error}; save it again"
        ) from error
    table.columns = table.columns.map(str)
    _require_distinct(path, table.columns.to_series())
    return table


def _read_text(path: pathlib.Path, header: bool) -> pd.DataFrame:
    read = functools.partial(
        pd.read_csv, path, dtype="string", sep=_separator(path), encoding="utf-8-sig"
    )
    if not header:
        return read(header=None)
    _require_distinct(path, read(header=None, nrows=1, keep_default_na=False).iloc[0])
    table = read()
    if not isinstance(table.index, pd.RangeIndex):
        # The first cells would be taken for names of the rows, and the others for their neighbours.
        raise ValueError(
            f"its rows have {table.index.nlevels} more cells than its header of {table.shape[1]}"
        )
    return table


def _read_excel(path: pathlib.Path) -> pd.DataFrame:
    # An empty sheet has no first row.
    first = pd.read_excel(path, dtype="string", header=None, nrows=1, keep_default_na=False)
    for _, header in first.iterrows():
        _require_distinct(path, header)
    return pd.read_excel(path, dtype="string")


def _require_distinct(path: pathlib.Path, header: pd.Series) -> None:
    """Refuses a name that stands twice, before pandas calls its second column "name.1"."""
    names = header[header.fillna("") != ""]
    if len(again := names[names.duplicated()]):
        raise TableError(f"{path}: two columns {again.iloc[0]!r}; rename or remove one of them")


def _read_parquet(path: pathlib.Path) -> pd.DataFrame:
    """Reads columns as they are stored, an index with a name among them, text in UTF-8 only."""
    table = pq.ParquetFile(path).read()
    fields = [
        one.with_type(pa.string()) if pa.types.is_binary(one.type) else one for one in table.schema
    ]
    table = table.cast(pa.schema(fields))
    table.validate(full=True)
    table = table.to_pandas(ignore_metadata=True, integer_object_nulls=True)
    unnamed = [name for name in table.columns if name.startswith(_UNNAMED_INDEX)]
    return table.drop(columns=unnamed)


_READERS = {".xlsx": _read_excel, ".parquet": _read_parquet}
# What pandas calls the numbers of a table's rows where it stores them.
_UNNAMED_INDEX = "__index_level_"


def _separator(path: pathlib.Path) -> str:
    with open(path, encoding="utf-8-sig") as stream:
        header = stream.readline()
    # Of equals the first: a header of one column has none of them.
    return max(",;\t", key=header.count)


def write_table(table: pd.DataFrame, path: str | os.PathLike) -> None:
    """Writes a CSV or Parquet table, by the extension; the file appears whole or not at all.

    Raises:
        TableError: The extension is another.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise TableError(f"{path}: tables are written as .csv or .parquet files.")
    parquet = path.suffix.lower() == ".parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        if parquet:
            table.to_parquet(temporary, index=False)
        else:
            table.to_csv(temporary, index=False)
