"""Tables of predictions, and the arrays that figures are computed from."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd

from clef_jax.errors import ClefError
from clef_jax.evaluate.metrics import youden_threshold

SPLITS = ("train", "validation", "test")
KINDS = ("multilabel", "multiclass", "binary", "regression")
# A model as trained on a share of the patients; with a seed, one training of it.
ENTRY = ("task", "preset", "lead", "mode", "model", "fraction")
COLUMNS = (*ENTRY, "seed", "example", "patient", "split", "label", "target", "score")
ATTRIBUTES = ("age", "sex", "site")

_SHOWN = 5


class PredictionsError(ClefError):
    """A table of predictions that cannot be scored; the message says of which task and why."""


@dataclasses.dataclass(frozen=True)
class Scored:
    """Targets and predictions of one model on the examples of one split.

    Attributes:
        kind: One of `KINDS`.
        labels: Names of the label columns.
        example: `[n]`, sorted.
        patient: `[n]`, whose each is.
        target: `[n, labels]`, 1 and 0 or quantities; NaN where unknown.
        score: `[n, labels]`, probabilities or quantities; NaN all down a label that could not be
            learned.
        decision: `[n, labels]`, 1 and 0; zeros for regression.
        attributes: Age in years, sex and site of the examples, those that are known of any.
    """

    kind: str
    labels: tuple[str, ...]
    example: np.ndarray
    patient: np.ndarray
    target: np.ndarray
    score: np.ndarray
    decision: np.ndarray
    attributes: pd.DataFrame

    def take(self, rows: np.ndarray) -> "Scored":
        """Returns the examples where a mask `[n]` is True."""
        fields = ("example", "patient", "target", "score", "decision")
        taken = {name: getattr(self, name)[rows] for name in fields}
        return dataclasses.replace(self, **taken, attributes=self.attributes[rows])


def check_predictions(predictions: pd.DataFrame, kind: str) -> None:
    """Raises `PredictionsError` unless the table holds predictions of one task that can be scored.

    Args:
        predictions: With `COLUMNS`; of multiclass tasks a row for each class of an example.
        kind: One of `KINDS`.
    """
    if kind not in KINDS:
        raise PredictionsError(f"kind of task {kind!r}; expected one of {', '.join(KINDS)}")
    if missing := [name for name in COLUMNS if name not in predictions.columns]:
        raise PredictionsError(
            f"predictions lack the columns {', '.join(missing)}; found "
            f"{', '.join(map(str, predictions.columns))}"
        )
    tasks = predictions["task"].unique()
    if len(tasks) > 1:
        raise PredictionsError(f"predictions of {len(tasks)} tasks at once; score each by itself")
    where = f"predictions of {tasks[0] if len(tasks) else 'no task'}"
    for name in (*ENTRY, "seed", "example", "patient", "split", "label"):
        _require(where, predictions, predictions[name].notna(), f"without {name}")
    _require(where, predictions, predictions["split"].isin(SPLITS), f"not of {', '.join(SPLITS)}")
    _require_scores(where, predictions, kind)
    keys = [*ENTRY, "seed", "example", "label"]
    repeated = predictions.duplicated(keys)
    _require(where, predictions, ~repeated, "predicted more than once for the same label")
    whose = predictions.groupby("example")["patient"].transform("nunique")
    _require(where, predictions, whose == 1, "of more than one patient")
    if kind == "multiclass":
        whole = predictions.groupby([*ENTRY, "seed", "example"])["label"].transform("size")
        most = whole.groupby([predictions[name] for name in (*ENTRY, "seed")]).transform("max")
        _require(where, predictions, whole == most, "without some classes")
    if kind in ("binary", "regression") and predictions["label"].nunique() > 1:
        raise PredictionsError(
            f"{where}: {predictions['label'].nunique()} labels in a {kind} task; expected one"
        )


def _require_scores(where: str, predictions: pd.DataFrame, kind: str) -> None:
    score, target = predictions["score"], predictions["target"]
    _require(where, predictions, ~np.isinf(score) & ~np.isinf(target), "not finite")
    untrained = score.isna().groupby([predictions[name] for name in (*ENTRY, "seed", "label")])
    some = score.isna() & ~untrained.transform("all")
    _require(where, predictions, ~some, "without a score, though others of its label have one")
    if kind != "regression":
        possible = score.isna() | score.between(0, 1)
        _require(where, predictions, possible, "with a score that is no probability from 0 to 1")
        known = target.isna() | target.isin((0, 1))
        _require(where, predictions, known, "with a target other than 0, 1 and unknown")


def _require(where: str, predictions: pd.DataFrame, well: pd.Series, otherwise: str) -> None:
    if not well.all():
        wrong = predictions[~well]
        shown = ", ".join(map(repr, wrong["example"].unique()[:_SHOWN].tolist()))
        raise PredictionsError(
            f"{where}: {len(wrong)} rows {otherwise}; examples {shown}; write them anew"
        )


def scored(predictions: pd.DataFrame, kind: str, labels: Sequence[str], split: str) -> Scored:
    """Returns the arrays of one model's predictions for a split.

    Whether a label is present is decided from the score on that maximises sensitivity + specificity
    on the validation rows, 0.5 where there are none; a class by the highest of an example's scores.

    Args:
        predictions: Rows of one model, one fraction and one seed, checked.
        kind: One of `KINDS`.
        labels: Names of the labels, in the order of the arrays' columns.
        split: "test" or another.
    """
    arrays = _arrays(predictions[predictions["split"] == split], labels)
    example, patient, target, score, attributes = arrays
    if kind == "regression":
        decision = np.zeros_like(score)
    elif kind == "multiclass":
        highest = np.argmax(np.where(np.isnan(score), -np.inf, score), axis=1)
        decision = (highest[:, None] == np.arange(len(labels))).astype(float)
    else:
        decision = (score >= _thresholds(predictions, labels)).astype(float)
    return Scored(kind, tuple(labels), example, patient, target, score, decision, attributes)


def _arrays(rows: pd.DataFrame, labels: Sequence[str]):
    example, first, code = np.unique(
        rows["example"].to_numpy(str), return_index=True, return_inverse=True
    )
    column = pd.Categorical(rows["label"], labels).codes
    arrays = []
    for name in ("target", "score"):
        array = np.full((len(example), len(labels)), np.nan)
        array[code, column] = rows[name].to_numpy(np.float64)
        arrays.append(array)
    known = [name for name in ATTRIBUTES if name in rows.columns and rows[name].notna().any()]
    attributes = rows[known].iloc[first].reset_index(drop=True)
    return example, rows["patient"].to_numpy(str)[first], *arrays, attributes


def _thresholds(predictions: pd.DataFrame, labels: Sequence[str]) -> np.ndarray:
    _, _, target, score, _ = _arrays(predictions[predictions["split"] == "validation"], labels)
    usable = np.isfinite(target) & np.isfinite(score)
    return np.array(
        [
            youden_threshold(target[rows, column], score[rows, column])
            for column, rows in enumerate(usable.T)
        ]
    )
