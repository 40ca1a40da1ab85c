"""Examples of a task: which window of which recording, whose it is, and what is to be told of it.

They are one table for every dataset and for users' own tables, so that whoever evaluates knows no
dataset. Nothing here reads a signal.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Iterable

import numpy as np
import pandas as pd

from clef_jax.data.recordings.recording import Hints
from clef_jax.errors import ClefError

REQUIRED = ("example", "patient", "split", "file", "lead", "start_s", "window_s")
OPTIONAL = ("age", "sex", "site", "episode")
SPLITS = ("train", "validation", "test")
# What the one label column of a task of several exclusive classes is called.
CLASS = "class"

_SHOWN = 5
_LONGEST = 80


class ExamplesError(ClefError):
    """Labels or splits that nothing can be evaluated on; the message says which, and what to do."""


def clipped(name: object) -> str:
    """Returns a name for a message, of one longer than 80 characters the beginning."""
    text = str(name)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def first_few(names: Iterable[object]) -> str:
    """Returns the first five of some names and the number of the others, for a message."""
    listed = [clipped(name) for name in names]
    more = len(listed) - _SHOWN
    return ", ".join(listed[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")


@dataclasses.dataclass(frozen=True)
class Examples:
    """The examples of one task under one preset.

    Attributes:
        table: RangeIndex; `REQUIRED`, the labels and some of `OPTIONAL`. `example` is unique text;
            `file` is relative to `root`, with or without extension, as `open_recording` takes it;
            `lead` is as the file or a standard alias names it; `start_s` and `window_s` are
            seconds. Labels are float64, NaN where unknown. Rows that share an `episode` show one
            and the same event or person: their predictions are to be averaged before scoring.
        root: Folder that the files are relative to.
        labels: The label columns; of exclusive classes one, `CLASS`, an index from 0.
        notes: What was left out and why, a sentence each.
        hints: What the files do not say of themselves, such as the rate of CSV files.

    Raises:
        ExamplesError: A column is missing, an example occurs twice, or a split has no such name.
    """

    table: pd.DataFrame
    root: str
    labels: tuple[str, ...]
    notes: tuple[str, ...] = ()
    hints: Hints = Hints()

    def __post_init__(self):
        table = self.table
        if absent := [name for name in (*REQUIRED, *self.labels) if name not in table.columns]:
            raise ExamplesError(
                f"{self.root}: examples without column {', '.join(absent)}; found "
                f"{', '.join(map(str, table.columns))}; name or add what is missing"
            )
        if not self.labels:
            raise ExamplesError(f"{self.root}: examples without a label; name a label column")
        for name in ("example", "patient", "file"):
            if (blank := table[name].isna()).any():
                raise ExamplesError(
                    f"{self.root}: {blank.sum():,} examples without {name}, the first in row "
                    f"{int(blank.to_numpy().argmax()) + 1}; look into the table that names them"
                )
        if (again := table["example"].duplicated()).any():
            raise ExamplesError(
                f"{self.root}: {again.sum():,} examples occur twice, such as "
                f"{first_few(table['example'][again].unique())}; expected each once; remove the "
                "copies, or tell them apart by start_s"
            )
        if (wrong := ~table["split"].isin(SPLITS)).any():
            raise ExamplesError(
                f"{self.root}: split {table['split'][wrong].iloc[0]!r} of example "
                f"{table['example'][wrong].iloc[0]}; expected {', '.join(SPLITS)}"
            )

    @functools.cached_property
    def split_hash(self) -> str:
        """Tells splits apart: 16 hexadecimal digits over example, patient and split."""
        return _digest(self.table, ["example", "patient", "split"])

    @functools.cached_property
    def label_hash(self) -> str:
        """Tells labels and windows apart: 16 hexadecimal digits, whatever the order of rows."""
        columns = ["example", *self.labels, "file", "lead", "start_s", "window_s"]
        return _digest(self.table, columns)

    @functools.cached_property
    def people_hash(self) -> str:
        """Tells apart what is known of people and episodes: 16 hexadecimal digits."""
        known = [name for name in OPTIONAL if name in self.table]
        return _digest(self.table, ["example", *known])

    def of(self, split: str) -> pd.DataFrame:
        """Returns the rows of a split."""
        return self.table[self.table["split"] == split]

    def split_by(self, split: np.ndarray) -> "Examples":
        """Returns these examples in other splits, names of `SPLITS` for each row."""
        return dataclasses.replace(self, table=self.table.assign(split=split))

    def noting(self, *notes: str) -> "Examples":
        """Returns these examples with further notes."""
        return dataclasses.replace(self, notes=(*self.notes, *notes))


def _digest(table: pd.DataFrame, columns: list[str]) -> str:
    rows = table[columns].sort_values("example", kind="stable")
    digest = hashlib.sha256("\t".join(columns).encode())
    for row in rows.itertuples(index=False, name=None):
        digest.update("\t".join(map(str, row)).encode() + b"\n")
    return digest.hexdigest()[:16]


def require_disjoint(examples: Examples) -> None:
    """Raises ExamplesError where a patient is in two splits, and names five of them."""
    splits = examples.table.groupby("patient")["split"].nunique()
    if len(torn := splits.index[splits > 1]):
        raise ExamplesError(
            f"{examples.root}: {len(torn):,} patients are in more than one split: "
            f"{first_few(torn)}; a score on patients who were trained on tells nothing; put each "
            "into one split, or leave the column split out"
        )


def without_unlabelled(examples: Examples) -> Examples:
    """Returns the examples without those of which no label is known, and notes how many."""
    unknown = examples.table[list(examples.labels)].isna().all(axis=1)
    if not unknown.any():
        return examples
    table = examples.table[~unknown].reset_index(drop=True)
    note = f"{unknown.sum():,} examples left out: no label of them is known."
    return dataclasses.replace(examples, table=table).noting(note)


def without_untestable(examples: Examples) -> Examples:
    """Returns the examples without labels of 0 and 1 that nobody could learn or test.

    Those have no positive, or nothing but positives, in train or in test. They are named in a note;
    the rows stay.

    Raises:
        ExamplesError: No label is left.
    """
    kept, left_out = [], []
    for label in examples.labels:
        in_split = {split: examples.of(split)[label].dropna() for split in ("train", "test")}
        if all(0 < known.sum() < len(known) for known in in_split.values()):
            kept.append(label)
        else:
            counts = ", ".join(f"{int(v.sum())} of {len(v)} in {s}" for s, v in in_split.items())
            left_out.append(f"{label} ({counts})")
    if not kept:
        raise ExamplesError(
            f"{examples.root}: no label is both there and not there in train and in test: "
            f"{first_few(left_out)}; label more examples, or split them otherwise"
        )
    if not left_out:
        return examples
    table = examples.table.drop(columns=[name for name in examples.labels if name not in kept])
    note = (
        f"{len(left_out)} of {len(examples.labels)} labels left out, as train or test has no "
        f"positive of them or nothing else: {', '.join(left_out)}."
    )
    return dataclasses.replace(examples, table=table, labels=tuple(kept)).noting(note)


def require_testable_classes(examples: Examples, classes: tuple[str, ...]) -> Examples:
    """Checks exclusive classes, those of a yes or no included, and notes what cannot be tested.

    Args:
        examples: With one label, an index among `classes`.
        classes: Their names, for messages.

    Returns:
        The examples, with a note on classes that do not occur in test or in validation.

    Raises:
        ExamplesError: A class of validation or test is never in train, or test has one class only.
    """
    (label,) = examples.labels
    in_split = {split: set(examples.of(split)[label].dropna().astype(int)) for split in SPLITS}
    for split in ("validation", "test"):
        if strange := sorted(in_split[split] - in_split["train"]):
            names = first_few(classes[at] for at in strange)
            raise ExamplesError(
                f"{examples.root}: class {names} occurs in {split} but never in train, so that "
                "nothing can learn it; move some of its patients to train, or leave it out"
            )
    if len(in_split["test"]) < 2:
        names = first_few(classes[at] for at in sorted(in_split["test"])) or "none"
        raise ExamplesError(
            f"{examples.root}: test has one class only ({names}), on which nothing can be told "
            "apart; split the patients otherwise"
        )
    for split in ("validation", "test"):
        if absent := sorted(in_split["train"] - in_split[split]):
            names = first_few(classes[at] for at in absent)
            examples = examples.noting(f"In train but not in {split}: class {names}.")
    return examples


def joined(columns: dict[str, object], rows: int) -> pd.DataFrame:
    """Returns columns as a table of so many rows; of series only those of a RangeIndex fit."""
    table = pd.DataFrame(columns, index=pd.RangeIndex(rows))
    for name in ("start_s", "window_s"):
        table[name] = np.asarray(table[name], np.float64)
    return table
