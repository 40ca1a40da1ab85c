"""The folder of a run: what was predicted, piece by piece, and the tables made of it."""

import contextlib
import csv
import hashlib
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from clef_jax.errors import ClefError
from clef_jax.evaluate.asking.question import Question
from clef_jax.files import clear_temporaries, locked, replacing

# What tells one piece of work from another, and what is known of who was tested.
SLOT = ("task", "preset", "lead", "mode", "model", "fraction", "seed")
PEOPLE = ("age", "sex", "site")
MADE_OF = ("fingerprint", "preparation", "split_hash")
PREDICTIONS = (
    *SLOT, "example", "patient", "split", "label", "target", "score", *PEOPLE, *MADE_OF
)  # fmt: skip
_ABOUT = b"clef_jax"


class ResultsError(ClefError):
    """A folder of results that cannot be added to; the message says what to do."""


def digest(content: Any) -> str:
    """Returns 16 hexadecimal digits of anything that JSON holds."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


class Parts:
    """Tables in a folder, each whole, in its slot, with the key of all that determines it."""

    def __init__(self, folder: pathlib.Path):
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def write(
        self, kind: str, slot: Mapping[str, Any], table: pd.DataFrame, about: Mapping[str, Any]
    ) -> None:
        """Puts a table into its slot, in the place of what was there.

        Args:
            kind: What tables of this kind are called.
            slot: What the table is about.
            table: The table.
            about: JSON record with at least its "key".
        """
        record = json.dumps({"slot": dict(slot), **about}).encode()
        arrow = pa.Table.from_pandas(table, preserve_index=False)
        arrow = arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), _ABOUT: record})
        with replacing(self._path(kind, slot)) as temporary:
            pq.write_table(arrow, temporary)

    def about(self, kind: str, slot: Mapping[str, Any]) -> dict[str, Any] | None:
        """Returns what is said of the table in a slot, None where there is none."""
        path = self._path(kind, slot)
        return _about(path) if path.exists() else None

    def tables(self, kind: str) -> Iterator[tuple[pathlib.Path, dict[str, Any]]]:
        """Yields the tables of a kind, each with what is said of it."""
        for path in sorted(self._folder.glob(f"{kind}-*.parquet")):
            yield path, _about(path)

    def _path(self, kind: str, slot: Mapping[str, Any]) -> pathlib.Path:
        return self._folder / f"{kind}-{digest(dict(slot))}.parquet"


def _about(path: pathlib.Path) -> dict[str, Any]:
    try:
        return json.loads((pq.read_schema(path).metadata or {})[_ABOUT])
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise ResultsError(
            f"{path}: damaged ({type(error).__name__}: {error}); remove it, and what it held is "
            "computed again"
        ) from None


@contextlib.contextmanager
def results_folder(out: pathlib.Path) -> Iterator[Parts]:
    """Opens a folder of results for one process.

    Raises:
        ResultsError: It is a file, or another process works in it.
    """
    if out.exists() and not out.is_dir():
        raise ResultsError(f"{out}: is a file; expected a folder for --out")
    out.mkdir(parents=True, exist_ok=True)

    def refusal(holder: str) -> ResultsError:
        return ResultsError(
            f"{out}: another process evaluates into it ({holder}); wait for it or choose another "
            "--out"
        )

    with locked(out / ".lock", refusal):
        for folder in (out, out / "parts"):
            clear_temporaries(folder)
        yield Parts(out / "parts")


def predictions_table(
    question: Question,
    targets: np.ndarray,
    scores: np.ndarray,
    read: np.ndarray,
    about: Mapping[str, Any],
) -> pd.DataFrame:
    """Returns the predictions of validation and test, a row for each example and label.

    Rows that share an `episode` are one, with their mean score, by the name of the episode.

    Args:
        question: The task as it was asked.
        targets: `[n, labels]`, of `question.names`.
        scores: Likewise; NaN all down a label that could not be learned.
        read: bool `[n]`; others are left out.
        about: Values of the columns `SLOT` and `MADE_OF`.
    """
    table = question.examples.table.reset_index(drop=True)
    people = pd.DataFrame({name: table.get(name) for name in PEOPLE}, index=table.index)
    people = people.astype({"age": "float64", "sex": "string", "site": "string"})
    name = "episode" if "episode" in table else "example"
    rows = pd.DataFrame(
        {
            "example": table[name].astype(str),
            "patient": table["patient"].astype(str),
            "split": table["split"],
            **people,
        }
    )
    kept = (table["split"] != "train").to_numpy() & read
    found = pd.concat(
        rows.assign(label=name, target=targets[:, at], score=scores[:, at])[kept]
        for at, name in enumerate(question.names)
    )
    if "episode" in table:
        first = dict.fromkeys(("target", *PEOPLE), "first")
        keys = ["example", "patient", "split", "label"]
        found = found.groupby(keys, sort=False, as_index=False).agg({**first, "score": "mean"})
    return found.assign(**about)[list(PREDICTIONS)].reset_index(drop=True)


def read_tables(parts: Sequence[pathlib.Path]) -> pd.DataFrame:
    """Returns the tables of parts, one below the other."""
    tables = [pq.read_table(part) for part in parts]
    # Columns of people of whom nothing is known have no type of their own.
    joined = pa.concat_tables(tables, promote_options="permissive")
    return joined.replace_schema_metadata().to_pandas()


def write_parquet(path: pathlib.Path, table: pd.DataFrame) -> None:
    """Writes a table whole or not at all."""
    with replacing(path) as temporary:
        table.to_parquet(temporary, index=False)


def write_errors(path: pathlib.Path, errors: Sequence[Sequence[str]]) -> None:
    """Writes (file, example, error) of what was left out, or removes the list where nothing was."""
    if not errors:
        path.unlink(missing_ok=True)
        return
    with (
        replacing(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8", errors="backslashreplace") as stream,
    ):
        rows = csv.writer(stream)
        rows.writerow(("file", "example", "error"))
        rows.writerows(errors)
