"""Which model is best at a task, how sure that is, and against which bar."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from clef_jax.evaluate.metrics import LOWER_IS_BETTER
from clef_jax.evaluate.report.answers import Answers
from clef_jax.evaluate.report.words import METRIC_NAMES, entry_name
from clef_jax.evaluate.statistics.evaluate import OVER_SEEDS

_LEVEL = 0.05
# Below so many test patients, or with wider intervals of AUROC, scores tell of the pipeline only.
_ENOUGH_PATIENTS = 100
_WIDE = 0.2


class Entry(NamedTuple):
    """A model under one mode."""

    model: str
    mode: str

    @property
    def name(self) -> str:
        """How it is called."""
        return entry_name(self.model, self.mode)

    @property
    def is_bar(self) -> bool:
        """Whether a model must be better than it to be worth anything."""
        untrained = self.model == "random" or self.model.startswith("random ")
        return untrained or self.mode in ("baseline", "scratch")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The answer to one task in short.

    Attributes:
        metric: What models are ranked by.
        best: The entry with the best figure on the test that is no bar; a bar where there is none.
        score: Its row of results.
        bar: The best of the bars that `best` was compared with, or of all bars; None without any.
        bar_score: Its row.
        difference: The row of comparisons, best less bar; None where there is none.
        words: "above its bar", or what else holds.
        tests: How many tests the whole report makes.
        doubts: Why scores are about the pipeline rather than a model; empty where they are not.
    """

    metric: str
    best: Entry
    score: pd.Series
    bar: Entry | None
    bar_score: pd.Series | None
    difference: pd.Series | None
    words: str
    tests: int
    doubts: Sequence[str]


def headline(kind: str) -> str:
    """Returns the metric that models are ranked by."""
    return "mae" if kind == "regression" else "auroc"


def whole_rows(answers: Answers, metric: str, fraction: float | None = None) -> pd.DataFrame:
    """Returns the rows of a metric of each entry over seeds and labels.

    They are of one fraction, or of the largest of each entry.
    """
    rows = answers.results
    rows = rows[(rows["metric"] == metric) & (rows["label"] == "") & (rows["seed"] == OVER_SEEDS)]
    largest = rows.groupby(["model", "mode"])["fraction"].transform("max")
    wanted = largest if fraction is None else fraction
    return rows[rows["fraction"] == wanted].reset_index(drop=True)


def ranked(answers: Answers, fraction: float | None = None) -> list[tuple[Entry, pd.Series]]:
    """Returns entries and their `whole_rows`, the best first; those without a figure last."""
    metric = headline(answers.kind)
    rows = whole_rows(answers, metric, fraction)
    ascending = metric in LOWER_IS_BETTER
    rows = rows.sort_values("value", ascending=ascending, na_position="last", kind="stable")
    return [(Entry(row["model"], row["mode"]), row) for _, row in rows.iterrows()]


def judge(answers: Answers, tests: int) -> Verdict:
    """Returns the verdict on a task; `tests` is the number of tests that Holm's correction saw."""
    order = ranked(answers)
    models = [found for found in order if not found[0].is_bar]
    best, score = (models or order)[0]
    # Of the same share of the training patients.
    bars = [found for found in ranked(answers, score["fraction"]) if found[0].is_bar]
    against = [
        (bar, row, _difference(answers, best, bar, score["fraction"]))
        for bar, row in bars
        if bar != best
    ]
    compared = [found for found in against if found[2] is not None]
    chosen = compared or against
    bar, bar_score, difference = chosen[0] if chosen else (None, None, None)
    return Verdict(
        metric=headline(answers.kind),
        best=best,
        score=score,
        bar=bar,
        bar_score=bar_score,
        difference=difference,
        words=_words(bar, difference, tests),
        tests=tests,
        doubts=_doubts(answers, score),
    )


def _difference(answers: Answers, best: Entry, bar: Entry, fraction: float) -> pd.Series | None:
    """Returns the comparison of two entries at a fraction, signed as best less bar."""
    rows = answers.comparisons
    metric = headline(answers.kind)
    rows = rows[(rows["metric"] == metric) & (rows["label"] == "") & (rows["mode"] == best.mode)]
    rows = rows[rows["fraction"] == fraction]
    name = bar.model if bar.mode in (best.mode, "baseline") else f"{bar.model} ({bar.mode})"
    for first, second, sign in ((best.model, name, 1), (name, best.model, -1)):
        found = rows[(rows["model_a"] == first) & (rows["model_b"] == second)]
        if len(found):
            row = found.iloc[0].copy()
            bounds = sorted((sign * row["low"], sign * row["high"]))
            row["difference"], row["low"], row["high"] = sign * row["difference"], *bounds
            return row
    return None


def _words(bar: Entry | None, difference: pd.Series | None, tests: int) -> str:
    if bar is None:
        return "no bar was run"
    if difference is None:
        return "not compared with its bar"
    sign = -1 if difference["metric"] in LOWER_IS_BETTER else 1
    low, high = sorted((sign * difference["low"], sign * difference["high"]))
    if not (low > 0 or high < 0):
        return "not to be told apart from its bar"
    where = "above its bar" if low > 0 else "below its bar"
    if difference["metric"] in LOWER_IS_BETTER:
        where = "better than its bar" if low > 0 else "worse than its bar"
    if difference["p_holm"] < _LEVEL:
        return where
    return f"{where} by its interval, but not after correction for {tests:,} tests"


def _doubts(answers: Answers, score: pd.Series) -> list[str]:
    tested = answers.predictions[answers.predictions["split"] == "test"]
    patients, examples = tested["patient"].nunique(), tested["example"].nunique()
    doubts = []
    if patients < _ENOUGH_PATIENTS:
        doubts.append(f"{examples:,} test examples of {patients:,} patients are few")
    labels = answers.results
    labels = labels[(labels["metric"] == headline(answers.kind)) & (labels["seed"] == OVER_SEEDS)]
    labels = labels[(labels["model"] == score["model"]) & (labels["mode"] == score["mode"])]
    labels = labels[labels["fraction"] == score["fraction"]]
    known = set(tested["label"].unique())
    shown = known if len(known) > 1 else {""}
    flagged = labels[(labels["flag"] != "") & labels["label"].isin(shown)]
    if 2 * len(flagged) >= max(len(known), 1):
        doubts.append(f"{len(flagged)} of {len(known)} labels are flagged for few test examples")
    width = score["high"] - score["low"]
    if score["metric"] == "auroc" and not width <= _WIDE:
        told = f"{width:.2f} wide" if np.isfinite(width) else "unknown"
        doubts.append(f"the interval of {METRIC_NAMES['auroc']} is {told}")
    return doubts
