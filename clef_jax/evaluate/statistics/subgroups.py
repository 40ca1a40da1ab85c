"""Whether a model is as good for some patients as for others: by sex, age and site."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from clef_jax.evaluate.statistics.bootstrap import (
    Counts,
    label_counts,
    label_figures,
    macro,
    whole_counts,
)
from clef_jax.evaluate.statistics.predictions import Scored
from clef_jax.evaluate.statistics.resampling import interval, over_seeds, patient_draws

AGE_BANDS = ("<40", "40-59", "60-74", ">=75")
LARGEST_GAP = "largest gap"

SUBGROUP_COLUMNS = (
    *("attribute", "group", "metric", "value", "low", "high", "n", "patients", "positives"),
    *("labels", "flag"),
)
_AGE_EDGES = (40, 60, 75)


def subgroup_figures(
    trainings: Sequence[Scored], metric: str, *, resamples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Returns a metric for each sex, age band and site, and the largest gap between two of them.

    The mean over labels is of those labels that have a figure in all groups of the attribute, as
    otherwise groups would differ by their labels. The gap's interval is of the two groups that are
    farthest apart in the sample, on the same draws of patients.

    Args:
        trainings: Test predictions of one model by its trainings, of the same examples.
        metric: Of `metrics.CLASSIFICATION` or `metrics.REGRESSION`.
        resamples: Draws of patients.
        seed: Seed of the draws.

    Returns:
        Rows with `SUBGROUP_COLUMNS`; `labels` is how many the mean is over. Attributes with fewer
        than two groups, and examples without one, have none.
    """
    rows: list[dict[str, Any]] = []
    if trainings:
        names, codes = np.unique(trainings[0].patient, return_inverse=True)
        draws = patient_draws(len(names), resamples, seed)
        for attribute, group_of in _groupings(trainings[0].attributes):
            of_attribute = _rows(trainings, metric, group_of, codes, draws, seed)
            rows += [{"attribute": attribute, "metric": metric} | row for row in of_attribute]
    return pd.DataFrame(rows, columns=list(SUBGROUP_COLUMNS))


def _groupings(attributes: pd.DataFrame) -> Iterator[tuple[str, pd.Series]]:
    """Yields each known attribute and the group of each example, missing where unknown."""
    if "sex" in attributes:
        yield "sex", attributes["sex"].astype("string")
    if "age" in attributes:
        age = attributes["age"].to_numpy(np.float64)
        bands = np.array(AGE_BANDS)[np.searchsorted(_AGE_EDGES, age, side="right").clip(max=3)]
        yield "age", pd.Series(bands, dtype="string").where(np.isfinite(age))
    if "site" in attributes:
        yield "site", attributes["site"].astype("string")


def _rows(
    trainings: Sequence[Scored],
    metric: str,
    group_of: pd.Series,
    codes: np.ndarray,
    draws: np.ndarray,
    seed: int,
) -> Iterator[dict[str, Any]]:
    counts: dict[str, list[Counts]] = {}
    drawn: dict[str, np.ndarray] = {}
    for group in sorted(group_of.dropna().unique(), key=_order):
        inside = (group_of == group).fillna(False).to_numpy(bool)
        taken = [of_it.take(inside) for of_it in trainings]
        counts[group] = label_counts(taken[0])
        figures = [label_figures(of_it, codes[inside], draws)[metric] for of_it in taken]
        drawn[group] = over_seeds(figures, seed)
    if len(drawn) < 2:
        return
    common = np.all([np.isfinite(figures[0]) for figures in drawn.values()], axis=0)
    labels = np.flatnonzero(common)
    means = {group: macro(figures[:, labels]) for group, figures in drawn.items()}
    for group, mean in means.items():
        inside = (group_of == group).fillna(False).to_numpy(bool)
        used = [counts[group][label] for label in labels] or counts[group]
        rests_on = whole_counts(trainings[0].take(inside), used)
        yield _row(group, mean, rests_on.patients, len(labels)) | {
            "n": rests_on.n,
            "patients": len(np.unique(codes[inside])),
            "positives": rests_on.positives,
            "flag": rests_on.flag,
        }
    yield from _largest_gap(means, counts, len(labels))


def _largest_gap(
    means: Mapping[str, np.ndarray], counts: Mapping[str, Sequence[Counts]], labels: int
) -> Iterator[dict[str, Any]]:
    known = {group: mean for group, mean in means.items() if np.isfinite(mean[0])}
    if len(known) < 2:
        return
    best = max(known, key=lambda group: known[group][0])
    worst = min(known, key=lambda group: known[group][0])
    patients = min(of_label.patients for group in (best, worst) for of_label in counts[group])
    apart = known[best] - known[worst]
    yield _row(f"{LARGEST_GAP}: {best} less {worst}", apart, patients, labels) | {
        "n": 0,
        "patients": 0,
        "positives": 0,
        "flag": "",
    }


def _row(group: str, drawn: np.ndarray, patients: float, labels: int) -> dict[str, Any]:
    low, high = interval(drawn[1:], patients)
    value = float(drawn[0])
    return {"group": group, "value": value, "low": low, "high": high, "labels": labels}


def _order(group: str) -> tuple[int, str]:
    return (AGE_BANDS.index(group) if group in AGE_BANDS else 0, group)
