"""A user's own table of recordings and labels as a task: the way most people evaluate.

The table (CSV, TSV, Excel, Parquet) has a column `file` and one or more of labels, and may have
`patient`, `split`, `lead`, `start_s`, `age`, `sex`, `site`. Without a split, patients are shared
out 70 / 10 / 20 %, balanced by label and told by a seed.
"""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

import numpy as np
import pandas as pd

from clef_jax.data.recordings.demographics import parse_sex
from clef_jax.data.recordings.recording import Hints
from clef_jax.evaluate.datasets.folders import require_files
from clef_jax.evaluate.datasets.splits import SEED, split_patients, strata_of
from clef_jax.evaluate.datasets.user_labels import (
    choose_columns,
    infer_kind,
    plain_numbers,
    read_labels,
)
from clef_jax.evaluate.tasks.examples import (
    SPLITS,
    Examples,
    ExamplesError,
    clipped,
    require_disjoint,
    require_testable_classes,
    without_unlabelled,
    without_untestable,
)
from clef_jax.evaluate.tasks.task import Kind, Task, TaskInfo
from clef_jax.tables.columns import is_blank, normalised, quantities
from clef_jax.tables.files import read_table
from clef_jax.tables.matching import identifiers

COLUMNS = ("file", "patient", "split", "lead", "start_s", "age", "sex", "site")
_WINDOW_S = 10.0
_SPLIT_WORDS = {"val": "validation", "valid": "validation"} | {word: word for word in SPLITS}


def user_task(
    path: str | os.PathLike,
    *,
    labels: Sequence[str] | None = None,
    kind: Kind | None = None,
    seed: int = SEED,
    hints: Hints = Hints(),  # noqa: B008  frozen
) -> Task:
    """Makes a task of a table.

    Its examples take the root of the files, "" for the table's own folder, and a preset, of which
    there is only "clean"; a row that names its lead has that instead of the one asked for.

    Args:
        path: The table.
        labels: The label columns; all that are none of `COLUMNS` when None.
        kind: What the labels are; told by what they hold when None.
        seed: Of the split, where the table has none.
        hints: What the recordings do not say of themselves, such as the rate of CSV files.

    Raises:
        TableError: The table cannot be read.
        ExamplesError: It has no such labels, or they are of another kind.
    """
    source = os.fspath(path)
    table = read_table(path)
    table.columns = [_known(column) for column in table.columns]
    _require_columns(table, source)
    # A label that is also known of people, such as age, is no more than the label.
    wanted = [name if name in table else _known(name) for name in labels or ()]
    chosen = choose_columns(table, wanted, COLUMNS, source)
    kind = kind or infer_kind(table, chosen, source)
    values, classes = read_labels(table, chosen, kind, source)
    people = table[[name for name in COLUMNS if name in table.columns and name not in chosen]]
    info = TaskInfo(
        name=pathlib.Path(source).stem,
        kind=kind,
        classes=classes,
        source=source,
        how_to_get="correct the column file, or say what folder it is relative to",
    )

    def examples(info: TaskInfo, root: str, preset: str, lead: str) -> Examples:
        if preset != "clean":
            raise ExamplesError(f"{source}: a table has no preset {preset!r}; use clean")
        made = _examples(source, people, values, lead, root or os.path.dirname(source) or ".")
        made = dataclasses.replace(made, hints=hints)
        made = _with_split(made, people, kind, seed)
        require_files(source, made.root, list(made.table["file"]), info.how_to_get)
        return _testable(made, info)

    return Task(info, (), examples)


def _require_columns(table: pd.DataFrame, source: str) -> None:
    if (again := table.columns.duplicated()).any():
        name = table.columns[again][0]
        raise ExamplesError(f"{source}: two columns {name}; rename one of them")
    if "file" not in table.columns:
        raise ExamplesError(
            f"{source}: no column file; found {', '.join(map(clipped, table.columns))}; name the "
            "column of the recordings' paths so"
        )


def _known(column: str) -> str:
    """Returns the name by which a column is known, such as "file" of "File"; others as they are."""
    return normalised(column) if normalised(column) in COLUMNS else column


def _examples(
    source: str, table: pd.DataFrame, labels: pd.DataFrame, lead: str, root: str
) -> Examples:
    """Returns the examples, all in train as yet."""
    if (blank := is_blank(table["file"])).any():
        raise ExamplesError(f"{source}: column file is empty in row {int(blank.argmax()) + 1}")
    file = table["file"].astype("string").str.strip().str.replace("\\", "/").astype(object)
    start_s = _starts(source, table)
    made = pd.DataFrame({"example": file, "file": file, "start_s": start_s, "lead": lead})
    if file.duplicated().any():
        made["example"] = file + "@" + made["start_s"].map("{:g}".format)
    if "lead" in table:
        named = table["lead"].astype("string").str.strip()
        made["lead"] = named.mask(is_blank(named)).fillna(lead).astype(object)
    people, notes = _people(table, file)
    made = pd.concat([made, people], axis=1).assign(split="train", window_s=_WINDOW_S)
    made = pd.concat([made, labels.set_axis(made.index)], axis=1)
    return Examples(made.reset_index(drop=True), root, tuple(labels.columns), notes)


def _starts(source: str, table: pd.DataFrame) -> np.ndarray:
    """Returns where each window starts, s: the beginning where the table does not say."""
    if "start_s" not in table:
        return np.zeros(len(table))
    start_s = plain_numbers(table["start_s"])
    if (wrong := ~(start_s >= 0)).any():
        at = int(wrong.argmax())
        raise ExamplesError(
            f"{source}: start_s: found {clipped(repr(table['start_s'].iloc[at]))} in row "
            f"{at + 1}, expected seconds from 0 on"
        )
    return start_s


def _people(table: pd.DataFrame, file: pd.Series) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Returns patient, and age, sex and site where the table has them; and what is to be said."""
    people = pd.DataFrame({"patient": file})
    notes: tuple[str, ...] = ()
    if "patient" in table:
        known = pd.Series(identifiers(table["patient"]), index=table.index)
        people["patient"] = known.fillna(file)
    else:
        notes = ("No column patient: every file counts as a patient of its own.",)
    if "age" in table:
        people["age"] = quantities(table["age"])
    if "sex" in table:
        people["sex"] = table["sex"].astype("string").fillna("").map(parse_sex).astype(object)
        if people["sex"].isna().all() and not is_blank(table["sex"]).all():
            notes = (*notes, "Sex is not used: expected M, F, male, female.")
    if "site" in table:
        people["site"] = table["site"].astype("string").fillna("unknown").astype(object)
    return people, notes


def _with_split(examples: Examples, table: pd.DataFrame, kind: Kind, seed: int) -> Examples:
    """Gives each example the split that the table says, or one by seed."""
    if "split" in table:
        words = table["split"].astype("string").str.strip().str.lower().map(_SPLIT_WORDS)
        if (wrong := words.isna()).any():
            raise ExamplesError(
                f"{examples.root}: column split: found "
                f"{clipped(repr(table['split'][wrong].iloc[0]))} in row "
                f"{int(np.argmax(wrong)) + 1}, expected {', '.join(SPLITS)} in each row"
            )
        examples = without_unlabelled(examples.split_by(words.to_numpy(object)))
        require_disjoint(examples)
        return examples
    examples = without_unlabelled(examples)
    strata = strata_of(examples.table[list(examples.labels)], kind)
    examples = examples.split_by(split_patients(examples.table["patient"], strata, seed=seed))
    counts = ", ".join(f"{len(examples.of(s)):,} {s}" for s in SPLITS)
    return examples.noting(f"Split by seed {seed}, patients disjoint, balanced by label: {counts}.")


def _testable(examples: Examples, info: TaskInfo) -> Examples:
    if absent := [split for split in SPLITS if examples.of(split).empty]:
        raise ExamplesError(
            f"{info.source}: no labelled example in {', '.join(absent)}; at least three patients "
            "are needed, one for each split"
        )
    if info.kind == "multilabel":
        return without_untestable(examples)
    if info.kind == "binary":
        return require_testable_classes(examples, (f"not {info.classes[0]}", info.classes[0]))
    if info.kind == "multiclass":
        return require_testable_classes(examples, info.classes)
    return examples
