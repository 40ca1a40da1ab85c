"""Every metric of every model, with 95 % intervals over patients and seeds."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from clef_jax.evaluate.statistics.bootstrap import (
    label_counts,
    label_figures,
    macro,
    whole_counts,
    whole_figures,
)
from clef_jax.evaluate.statistics.predictions import ENTRY, Scored, check_predictions, scored
from clef_jax.evaluate.statistics.resampling import interval, over_seeds, patient_draws

# In the column seed: over all seeds of a training.
OVER_SEEDS = -1
# In the column label: the mean over those labels only that are not flagged.
UNFLAGGED = "(labels without a flag)"

RESULT_COLUMNS = (
    *("task", "kind", "preset", "lead", "mode", "model", "fingerprint", "preparation"),
    *("split_hash", "label", "metric", "fraction", "seed", "value", "low", "high"),
    *("n", "positives", "prevalence", "flag"),
)
# What a table of predictions may say of its entries, and results then say as well.
_CARRIED = ("fingerprint", "preparation", "split_hash")


def evaluate_predictions(
    predictions: pd.DataFrame, kind: str, *, resamples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Scores the test predictions of all models of one task.

    Intervals are of a bootstrap over patients, whose records stay together. There are rows for each
    seed, and rows of seed -1, whose draws are of a seed and of patients. The label "" is the mean
    over labels, or the only label; where some labels are flagged and some not, there are rows for
    the mean over those without a flag.

    Calibration errors grow with every resampling, for chance is added to chance: their draws are
    shifted to have the sample's own figure as their mean. That figure itself is not corrected.

    Args:
        predictions: As `predictions.COLUMNS` says, of one task.
        kind: Of the task: multilabel, multiclass, binary or regression.
        resamples: Draws of patients.
        seed: Seed of the draws.

    Returns:
        Rows with `RESULT_COLUMNS`. The value is NaN for labels that were untrainable or are absent
        in the test; their flag says so.

    Raises:
        PredictionsError: The table cannot be scored.
    """
    check_predictions(predictions, kind)
    labels = list(predictions["label"].unique())
    rows: list[dict[str, Any]] = []
    for entry, of_entry in predictions.groupby(list(ENTRY), sort=False):
        about = dict(zip(ENTRY, entry, strict=True)) | {"kind": kind}
        about |= {name: of_entry[name].iloc[0] for name in _CARRIED if name in of_entry}
        trainings = {
            training: scored(of_training, kind, labels, "test")
            for training, of_training in of_entry.groupby("seed")
        }
        rows += [about | row for row in _rows(trainings, resamples, seed)]
    return pd.DataFrame(rows, columns=list(RESULT_COLUMNS)).fillna(dict.fromkeys(_CARRIED, ""))


def _rows(trainings: dict[int, Scored], resamples: int, seed: int) -> Iterator[dict[str, Any]]:
    trainings = {number: of_it for number, of_it in trainings.items() if len(of_it.example)}
    if not trainings:
        return
    names = np.unique(np.concatenate([of_it.patient for of_it in trainings.values()]))
    draws = patient_draws(len(names), resamples, seed)
    of_seeds: dict[int, dict[tuple[str, str], np.ndarray]] = {}
    for number, of_it in trainings.items():
        codes = np.searchsorted(names, of_it.patient)
        of_seeds[number] = _figures(of_it, codes, draws)
        yield from _described(of_it, of_seeds[number], number)
    pooled = {
        key: over_seeds([figures[key] for figures in of_seeds.values()], seed)
        for key in next(iter(of_seeds.values()))
        if all(key in figures for figures in of_seeds.values())
    }
    yield from _described(next(iter(trainings.values())), pooled, OVER_SEEDS)


def _figures(
    of_training: Scored, codes: np.ndarray, draws: np.ndarray
) -> dict[tuple[str, str], np.ndarray]:
    """Returns draws of figures by label and metric."""
    of_labels = label_figures(of_training, codes, draws)
    whole = whole_figures(of_training, of_labels, codes, draws)
    figures = {("", metric): drawn for metric, drawn in whole.items()}
    if len(of_training.labels) > 1:
        counts = label_counts(of_training)
        good = [column for column in range(len(counts)) if not counts[column].flag]
        for metric, drawn in of_labels.items():
            figures[UNFLAGGED, metric] = macro(drawn[:, good])
            for column, label in enumerate(of_training.labels):
                figures[label, metric] = drawn[:, column]
    return figures


def _described(
    of_training: Scored, figures: dict[tuple[str, str], np.ndarray], seed: int
) -> Iterator[dict[str, Any]]:
    """Yields a row for each figure, with its interval and what it rests on."""
    of_labels = label_counts(of_training)
    unflagged = [counts for counts in of_labels if not counts.flag]
    counts = dict(zip(of_training.labels, of_labels, strict=True))
    counts[""] = whole_counts(of_training, of_labels)
    if unflagged and len(unflagged) < len(of_labels):
        counts[UNFLAGGED] = whole_counts(of_training, unflagged)
    for (label, metric), drawn in figures.items():
        if label not in counts:
            continue
        rests_on = counts[label]
        low, high = interval(_centred(metric, drawn), rests_on.patients)
        yield {
            "label": label,
            "metric": metric,
            "seed": seed,
            "value": float(drawn[0]),
            "low": low,
            "high": high,
            "n": rests_on.n,
            "positives": rests_on.positives,
            "prevalence": rests_on.prevalence,
            "flag": rests_on.flag,
        }


def _centred(metric: str, drawn: np.ndarray) -> np.ndarray:
    """Returns the resamples' figures; of calibration errors without what resampling adds."""
    if metric != "ece":
        return drawn[1:]
    return np.maximum(drawn[1:] - np.mean(drawn[1:]) + drawn[0], 0)
