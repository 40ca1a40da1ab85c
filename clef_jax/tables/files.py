"""Tables of people in files: CSV, TSV, Excel, Parquet."""

import os
import pathlib
import zipfile

import pandas as pd

from clef_jax.files import replacing
from clef_jax.tables.columns import TableError

READABLE = (".csv", ".tsv", ".txt", ".xlsx", ".parquet")


def read_table(path: str | os.PathLike) -> pd.DataFrame:
    """Reads a table; of all but Parquet every cell as text, so that ids keep their zeros.

    Text may be separated by commas, semicolons or tabs: whichever the first line has most of.

    Args:
        path: A .csv, .tsv, .txt, .xlsx (its first sheet) or .parquet file.

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
        if suffix == ".parquet":
            table = pd.read_parquet(path)
            table.columns = table.columns.map(str)
            return table
        if suffix == ".xlsx":
            return pd.read_excel(path, dtype="string")
        return pd.read_csv(path, dtype="string", sep=_separator(path), encoding="utf-8-sig")
    except ImportError as error:
        raise TableError(
            f"{path}: Excel files need openpyxl: pip install 'clef-jax[formats]'; or save it as CSV"
        ) from error
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise TableError(f"{path} cannot be read as a table: {error}") from error


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
