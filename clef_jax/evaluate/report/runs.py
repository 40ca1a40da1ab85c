"""Folders of evaluation runs, as they are on the disk."""

import dataclasses
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa

from clef_jax.errors import ClefError
from clef_jax.evaluate.statistics.compare import COMPARISON_COLUMNS
from clef_jax.evaluate.statistics.evaluate import RESULT_COLUMNS
from clef_jax.evaluate.statistics.predictions import COLUMNS

GROUP = ("task", "preset", "lead")


class EvaluationRunError(ClefError):
    """Runs that cannot be reported, or not together; the message says which and why."""


@dataclasses.dataclass(frozen=True)
class Run:
    """What a folder of an evaluation holds.

    Attributes:
        folder: The folder.
        predictions: As `predictions.COLUMNS`.
        results: As `statistics.evaluate_predictions` returns them; empty where there are none.
        comparisons: As `statistics.compare_predictions` does; empty where there are none.
        tasks: Records of tasks.json.
        errors: Lines of errors.csv.
    """

    folder: pathlib.Path
    predictions: pd.DataFrame
    results: pd.DataFrame
    comparisons: pd.DataFrame
    tasks: Sequence[Mapping[str, Any]]
    errors: int


def read_run(folder: pathlib.Path) -> Run:
    """Reads a folder that has predictions.parquet, and usually the other files.

    Raises:
        EvaluationRunError: A file is missing or damaged.
    """
    predictions, results, comparisons = (
        _read_table(folder / f"{name}.parquet", columns)
        for name, columns in (
            ("predictions", COLUMNS),
            ("results", RESULT_COLUMNS),
            ("comparisons", COMPARISON_COLUMNS),
        )
    )
    if predictions.empty:
        raise EvaluationRunError(
            f"{folder}: no predictions.parquet, or an empty one; expected the folder that "
            "clef-jax evaluate wrote with --out"
        )
    return Run(
        folder=folder,
        predictions=predictions,
        results=results,
        comparisons=comparisons,
        tasks=_read_tasks(folder / "tasks.json"),
        errors=_count_lines(folder / "errors.csv"),
    )


def _read_table(path: pathlib.Path, columns: Sequence[str]) -> pd.DataFrame:
    """Returns a table, without rows where there is no such file."""
    try:
        table = pd.read_parquet(path)
    except FileNotFoundError:
        return pd.DataFrame(columns=list(columns))
    except (pa.ArrowException, ValueError) as error:
        raise EvaluationRunError(
            f"{path}: damaged ({error}); evaluate into another folder"
        ) from None
    if missing := [name for name in columns if name not in table.columns]:
        raise EvaluationRunError(
            f"{path}: lacks the columns {', '.join(missing)}; expected a table of clef-jax evaluate"
        )
    return table


def _read_tasks(path: pathlib.Path) -> Sequence[Mapping[str, Any]]:
    if not path.exists():
        return ()
    try:
        tasks = json.loads(path.read_text(encoding="utf-8"))
        if all(isinstance(task, dict) and {"name", "kind"} <= task.keys() for task in tasks):
            return tasks
    except (ValueError, TypeError):
        pass
    raise EvaluationRunError(
        f"{path}: damaged; expected a list of records with name and kind; remove it to do without"
    )


def _count_lines(path: pathlib.Path) -> int:
    if not path.exists():
        return 0
    return max(0, len(path.read_text(encoding="utf-8", errors="replace").splitlines()) - 1)


def groups(table: pd.DataFrame) -> Iterator[tuple[str, ...]]:
    """Yields the tasks of a table, each with its preset and lead."""
    yield from table[list(GROUP)].drop_duplicates().itertuples(index=False, name=None)


def of_group(table: pd.DataFrame, group: tuple[str, ...]) -> pd.DataFrame:
    """Returns the rows of one task, preset and lead."""
    if table.empty:
        return table
    return table[(table[list(GROUP)] == list(group)).all(axis=1)].reset_index(drop=True)
