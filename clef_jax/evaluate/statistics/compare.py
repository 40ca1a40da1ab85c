"""Every two models on the same examples: what one has over the other, and if that is chance."""

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from clef_jax.evaluate.statistics.bootstrap import label_counts, label_figures, macro, whole_counts
from clef_jax.evaluate.statistics.permutation import COMPARED, p_values, paired
from clef_jax.evaluate.statistics.predictions import (
    PredictionsError,
    Scored,
    check_predictions,
    scored,
)
from clef_jax.evaluate.statistics.resampling import holm, interval, over_seeds, patient_draws

COMPARISON_COLUMNS = (
    *("task", "preset", "lead", "mode", "fraction", "metric", "label", "model_a", "model_b"),
    *("difference", "low", "high", "p", "p_holm", "n"),
)

_TOGETHER = ("task", "preset", "lead", "fraction")
_RESAMPLES = 1000


class _Model(NamedTuple):
    mode: str
    name: str


def compare_predictions(
    predictions: pd.DataFrame, kind: str, *, permutations: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Compares every two models of one mode, and each with the baselines, on the same examples.

    Fine-tuned models are compared with those trained from scratch as well. Differences have the
    95 % interval of a bootstrap over patients (and seeds), the same for both models. p-values are
    two-sided, of swapping the two models' predictions patient by patient; of several seeds the mean
    difference is looked at, which holds these trainings fixed. Labels flagged for few examples have
    differences, but are not tested: they could show nothing, and would dim what others show.

    Args:
        predictions: As `predictions.COLUMNS` says, of one task.
        kind: Of the task: multilabel, multiclass, binary or regression.
        permutations: Of each pair. p-values below their reach are a bound, see `p_values`.
        seed: Seed of the permutations and draws.

    Returns:
        Rows with `COMPARISON_COLUMNS`, of AUROC, AUPRC and Brier or MAE and RMSE; difference is
        model_a's figure less model_b's. Empty where there are no two models. p_holm is corrected
        for all rows.

    Raises:
        PredictionsError: The table cannot be scored, or models had other targets.
    """
    check_predictions(predictions, kind)
    labels = list(predictions["label"].unique())
    rows: list[dict[str, Any]] = []
    for group, of_group in predictions.groupby(list(_TOGETHER), sort=False):
        about = dict(zip(_TOGETHER, group, strict=True))
        models = _on_common_examples(_models(of_group, kind, labels))
        rows += [about | row for row in _rows(models, permutations, seed)]
    comparisons = pd.DataFrame(rows, columns=list(COMPARISON_COLUMNS))
    comparisons["p_holm"] = holm(comparisons["p"].to_numpy(np.float64))
    return comparisons


def _models(rows: pd.DataFrame, kind: str, labels: Sequence[str]) -> dict[_Model, list[Scored]]:
    models: dict[_Model, list[Scored]] = {}
    for (mode, name, _), of_training in rows.groupby(["mode", "model", "seed"], sort=False):
        training = scored(of_training, kind, labels, "test")
        if len(training.example):
            models.setdefault(_Model(mode, name), []).append(training)
    return models


def _on_common_examples(models: Mapping[_Model, Sequence[Scored]]) -> dict[_Model, list[Scored]]:
    everyone = [training for trainings in models.values() for training in trainings]
    if not everyone:
        return {}
    common = functools.reduce(np.intersect1d, [training.example for training in everyone])
    taken = {
        model: [training.take(np.isin(training.example, common)) for training in trainings]
        for model, trainings in models.items()
    }
    first = next(iter(taken.values()))[0]
    for model, trainings in taken.items():
        if not all(np.array_equal(t.target, first.target, equal_nan=True) for t in trainings):
            raise PredictionsError(
                f"predictions of {model.name} ({model.mode}) have other targets than those of "
                "other models for the same examples; write them anew from one table of labels"
            )
    return taken if len(common) else {}


def _pairs(models: Sequence[_Model]) -> Iterator[tuple[str, _Model, _Model]]:
    """Yields the mode under which two models are compared, and the models."""
    for mode in dict.fromkeys(model.mode for model in models if model.mode != "baseline"):
        others = ("baseline", "scratch") if mode == "finetune" else ("baseline",)
        own = [model for model in models if model.mode == mode]
        bars = [model for model in models if model.mode in others]
        for first, second in (*itertools.combinations(own, 2), *itertools.product(own, bars)):
            yield mode, first, second


def _rows(
    models: Mapping[_Model, Sequence[Scored]], permutations: int, seed: int
) -> Iterator[dict[str, Any]]:
    if len(models) < 2:
        return
    any_training = next(iter(models.values()))[0]
    names, codes = np.unique(any_training.patient, return_inverse=True)
    draws = patient_draws(len(names), _RESAMPLES, seed)
    drawn = {}
    for number, (model, trainings) in enumerate(models.items()):
        of_seeds = [label_figures(training, codes, draws) for training in trainings]
        drawn[model] = {
            metric: over_seeds([figures[metric] for figures in of_seeds], seed + number)
            for metric in COMPARED[any_training.kind]
        }
    for mode, first, second in _pairs(list(models)):
        about = {"mode": mode, "model_a": first.name, "model_b": second.name}
        if second.mode not in (mode, "baseline"):
            about["model_b"] = f"{second.name} ({second.mode})"
        trainings = [*models[first], *models[second]]
        counts = [label_counts(training) for training in trainings]
        both = [
            column
            for column in range(len(any_training.labels))
            if all(of_training[column].is_scored for of_training in counts)
        ]
        if not both:
            continue
        apart = {
            metric: (drawn[first][metric] - drawn[second][metric])[:, both]
            for metric in drawn[first]
        }
        pairs = paired(models[first], models[second])
        of_labels = [counts[0][column] for column in both]
        tested = np.array([True, *(not of_label.flag for of_label in of_labels)])
        p = p_values(pairs, both, codes, tested, permutations, seed)
        whole = whole_counts(any_training, of_labels)
        columns = [("", whole), *zip(np.array(any_training.labels)[both], of_labels, strict=True)]
        if len(any_training.labels) == 1:
            columns = columns[:1]
        for row, metric in enumerate(apart):
            for column, (label, rests_on) in enumerate(columns):
                of_it = apart[metric][:, column - 1] if column else macro(apart[metric])
                low, high = interval(of_it[1:], rests_on.patients)
                yield about | {
                    "metric": metric,
                    "label": str(label),
                    "difference": float(of_it[0]),
                    "low": low,
                    "high": high,
                    "p": p[row, column],
                    "n": rests_on.n,
                }
