"""What is fine-tuned on: prepared windows, what is known of them, and who is in which split."""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from clef_jax.evaluate.finetune.options import LOSSES, FinetuneError

SPLITS = ("train", "validation", "test")
_SHOWN = 5
_ROWS_HASHED = 4096


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Examples as arrays of the host, a row each.

    Attributes:
        x: float32 `[N, T]`, one lead each, prepared and z-scored: an array, or a memory map of
            which only the rows of a batch are read.
        labels: `[N, L]`, 0, 1 or NaN where not known; of a multiclass task `[N, 1]`, the number of
            the class; of a regression the targets in their unit.
        split: `[N]`, "train", "validation" or "test".
        patient: `[N]`, whose example it is.
        example: `[N]`, names, no two alike.
        kind: "multilabel", "multiclass", "binary" or "regression".
        classes: Names of the labels, of the classes, of the positive, or of the target.
        unit: Of regression targets.
        lead: Which one `x` holds; whose noise augmentation adds, and what is predicted from.
        task: Name of the task, for records.
        preparation: How `x` was made, as JSON has it; None for the encoder's own preprocessing.

    Raises:
        FinetuneError: The arrays do not fit each other, or hold what they cannot.
    """

    x: np.ndarray
    labels: np.ndarray
    split: np.ndarray
    patient: np.ndarray
    example: np.ndarray
    kind: str
    classes: tuple[str, ...]
    unit: str = ""
    lead: str = "I"
    task: str = ""
    preparation: Mapping[str, Any] | None = None

    def __post_init__(self):
        if self.kind not in LOSSES:
            raise FinetuneError(f"kind is {self.kind!r}; choose one of {', '.join(LOSSES)}")
        columns = 1 if self.kind == "multiclass" else len(self.classes)
        _require_shapes(self, columns)
        if self.kind == "binary" and columns != 1:
            raise FinetuneError(f"a binary task has one class, the positive; found {self.classes}")
        self._require_values()
        _require_names(self)

    def rows(self, split: str) -> np.ndarray:
        """Returns the numbers of a split's rows of which anything is known."""
        return np.flatnonzero((self.split == split) & np.isfinite(self.labels).any(axis=1))

    def fingerprint(self) -> str:
        """Returns the SHA-256 of all that training and its choices depend on."""
        found = hashlib.sha256(repr((self.x.shape, self.kind, self.classes)).encode())
        for start in range(0, len(self.x), _ROWS_HASHED):
            rows = self.x[start : start + _ROWS_HASHED]
            found.update(np.ascontiguousarray(rows, np.float32).data)
        found.update(np.ascontiguousarray(self.labels, np.float64).data)
        found.update("\0".join([*map(str, self.split), *map(str, self.example)]).encode())
        return found.hexdigest()

    def _require_values(self) -> None:
        known = self.labels[np.isfinite(self.labels)]
        possible = np.arange(len(self.classes)) if self.kind == "multiclass" else np.arange(2)
        if self.kind != "regression" and not np.isin(known, possible).all():
            odd = sorted(set(known.tolist()) - set(possible.tolist()))
            raise FinetuneError(
                f"labels of a {self.kind} task are {', '.join(map(str, possible))} or NaN; found "
                f"{', '.join(f'{value:g}' for value in odd[:_SHOWN])}"
            )
        if odd := sorted(set(self.split.tolist()) - set(SPLITS)):
            raise FinetuneError(f"split is {odd[0]!r}; expected {', '.join(SPLITS)}")
        for split in SPLITS[:2]:
            if not len(self.rows(split)):
                raise FinetuneError(
                    f"no example of the {split} split has a known label; fine-tuning needs some to "
                    "train on and some to choose by"
                )


def _require_shapes(inputs: Inputs, columns: int) -> None:
    count = len(inputs.x)
    wanted = {
        "labels": (count, columns),
        "split": (count,),
        "patient": (count,),
        "example": (count,),
    }
    if inputs.x.ndim != 2:
        raise FinetuneError(f"x must be [N, T], one lead, found {list(inputs.x.shape)}")
    for name, shape in wanted.items():
        if (found := getattr(inputs, name).shape) != shape:
            raise FinetuneError(f"{name} must be {list(shape)} beside x, found {list(found)}")


def _require_names(inputs: Inputs) -> None:
    names, times = np.unique(inputs.example.astype(str), return_counts=True)
    if len(twice := names[times > 1]):
        raise FinetuneError(f"{len(twice)} examples are there twice: {', '.join(twice[:_SHOWN])} …")
