"""The tables of one task."""

import numpy as np
import pandas as pd

from clef_jax.evaluate.metrics import CLASSIFICATION, REGRESSION
from clef_jax.evaluate.report.answers import Answers
from clef_jax.evaluate.report.verdict import Entry, Verdict, ranked
from clef_jax.evaluate.statistics.evaluate import OVER_SEEDS
from clef_jax.evaluate.statistics.predictions import Scored, scored


def trainings_of(answers: Answers, entry: Entry, split: str = "test") -> list[Scored]:
    """Returns the predictions of an entry at its largest fraction, a training each."""
    rows = answers.predictions
    labels = list(rows["label"].unique())
    rows = rows[(rows["model"] == entry.model) & (rows["mode"] == entry.mode)]
    rows = rows[rows["fraction"] == rows["fraction"].max()]
    return [scored(of_it, answers.kind, labels, split) for _, of_it in rows.groupby("seed")]


def metrics_of(answers: Answers) -> tuple[str, ...]:
    """Returns the metrics of a task's kind."""
    return REGRESSION if answers.kind == "regression" else CLASSIFICATION


def results_table(answers: Answers) -> pd.DataFrame:
    """Returns results over seeds at each entry's largest fraction, best entries first.

    A row for each entry and label; a column for each of `metrics_of` with (value, low, high), and
    n, positives, prevalence, flag.
    """
    rows = answers.results
    rows = rows[rows["seed"] == OVER_SEEDS]
    largest = rows.groupby(["model", "mode"])["fraction"].transform("max")
    place = {entry: number for number, (entry, _) in enumerate(ranked(answers))}
    found: dict[tuple[Entry, str], dict] = {}
    for row in rows[rows["fraction"] == largest].itertuples():
        entry = Entry(row.model, row.mode)
        about = found.setdefault(
            (entry, row.label),
            {
                "place": place.get(entry, len(place)),
                "entry": entry,
                "label": row.label,
                **{name: getattr(row, name) for name in ("n", "positives", "prevalence", "flag")},
                **dict.fromkeys(metrics_of(answers), (np.nan,) * 3),
            },
        )
        about[row.metric] = (row.value, row.low, row.high)
    return pd.DataFrame(found.values()).sort_values("place", kind="stable", ignore_index=True)


def confusion(answers: Answers, verdict: Verdict) -> tuple[list[str], np.ndarray] | None:
    """Returns classes and counts `[true, predicted]` of the best model's first training.

    None for tasks that are not of several classes.
    """
    if answers.kind != "multiclass":
        return None
    training = trainings_of(answers, verdict.best)[0]
    known = np.isfinite(training.target).any(axis=1)
    true, said = np.nan_to_num(training.target[known]), training.decision[known]
    return list(training.labels), (true.T @ said).astype(int)
