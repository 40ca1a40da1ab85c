"""Figures of one model for every draw of patients, label by label and as a whole."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from clef_jax.evaluate.metrics import (
    CLASSIFICATION,
    REGRESSION,
    classification_figures,
    regression_figures,
)
from clef_jax.evaluate.metrics.sums import mean
from clef_jax.evaluate.statistics.predictions import Scored
from clef_jax.evaluate.statistics.resampling import effective_patients

# Fewer test examples with a label, or without it, say more of chance than of a model.
FEW = 10

# Weights at once, so that they stay in a processor's cache: 2 MB.
_WEIGHTS = 2**18


@dataclasses.dataclass(frozen=True)
class Counts:
    """How much a figure rests on.

    Attributes:
        n: Examples whose target is known.
        positives: Of these, with the label; of several labels, with each, summed. 0 for regression.
        prevalence: positives / n; of several labels, their mean. NaN for regression.
        patients: Whose they are, as `effective_patients` counts.
        flag: "", "untrainable", "absent in test", "few positives" or "few negatives".
    """

    n: int
    positives: int
    prevalence: float
    patients: float
    flag: str

    @property
    def is_scored(self) -> bool:
        """Whether there can be a figure."""
        return self.flag not in ("untrainable", "absent in test")


def label_counts(scored: Scored) -> list[Counts]:
    """Returns what the figures of each label rest on."""
    is_regression = scored.kind == "regression"
    _, code = np.unique(scored.patient, return_inverse=True)
    counts = []
    for target, score in zip(scored.target.T, scored.score.T, strict=True):
        known = np.isfinite(target)
        n = int(known.sum())
        positives = 0 if is_regression else int(target[known].sum())
        prevalence = np.nan if is_regression or not n else positives / n
        patients = effective_patients(np.bincount(code[known], minlength=1))
        few = "" if is_regression else _few(positives, n - positives)
        untrainable = len(score) and np.isnan(score).all()
        flag = "untrainable" if untrainable else few if n else "absent in test"
        counts.append(Counts(n, positives, prevalence, patients, flag))
    return counts


def _few(positives: int, negatives: int) -> str:
    if positives == 0:
        return "absent in test"
    return "few positives" if positives < FEW else "few negatives" if negatives < FEW else ""


def whole_counts(scored: Scored, of_labels: Sequence[Counts]) -> Counts:
    """Returns what the mean over some labels rests on: of one label what that does.

    Of several, it is flagged as the worst of those that are scored.
    """
    if len(of_labels) == 1:
        return of_labels[0]
    used = [counts for counts in of_labels if counts.is_scored]
    known = np.isfinite(scored.target).any(axis=1)
    _, rows = np.unique(scored.patient[known], return_counts=True)
    return Counts(
        n=int(known.sum()),
        positives=sum(counts.positives for counts in used),
        prevalence=float(np.mean([counts.prevalence for counts in used])) if used else np.nan,
        patients=effective_patients(rows),
        flag=_worst([counts.flag for counts in used or of_labels]),
    )


def _worst(flags: Sequence[str]) -> str:
    order = ("absent in test", "untrainable", "few positives", "few negatives", "")
    return min(flags, key=order.index)


def label_figures(scored: Scored, codes: np.ndarray, draws: np.ndarray) -> dict[str, np.ndarray]:
    """Returns every metric `[draws, labels]`; NaN for labels that are not scored.

    Args:
        scored: Predictions of n examples.
        codes: `[n]`, each example's patient as a column of `draws`.
        draws: `[draws, patients]`, from `patient_draws`.
    """
    counts = label_counts(scored)
    names = REGRESSION if scored.kind == "regression" else CLASSIFICATION
    figures = {name: np.full((len(draws), len(counts)), np.nan) for name in names}
    for column in range(len(counts)):
        if counts[column].is_scored:
            for name, drawn in _figures(scored, column, codes, draws).items():
                figures[name][:, column] = drawn
    return figures


def _figures(
    scored: Scored, column: int, codes: np.ndarray, draws: np.ndarray
) -> dict[str, np.ndarray]:
    known = np.isfinite(scored.target[:, column])
    target, score = scored.target[known, column], scored.score[known, column]
    parts = []
    for weights in weights_of(codes[known], draws):
        if scored.kind == "regression":
            parts.append(regression_figures(weights, target, score))
        else:
            decision = scored.decision[known, column]
            parts.append(classification_figures(weights, target, score, decision))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def weights_of(codes: np.ndarray, draws: np.ndarray) -> Iterator[np.ndarray]:
    """Yields float64 weights of examples `[some draws, n]`, in order, few enough to be quick."""
    at_once = max(1, _WEIGHTS // max(len(codes), 1))
    for start in range(0, len(draws), at_once):
        yield draws[start : start + at_once][:, codes].astype(np.float64)


def macro(figures: np.ndarray) -> np.ndarray:
    """Returns the mean over labels of each draw `[draws]` of figures `[draws, labels]`.

    Where a draw has none of a label's few positives, its figure there is taken to differ from the
    sample's as much as that of the other labels does: labels are not left out of some draws, for
    easy and difficult ones differ by more than draws do. It stays between 0 and 1, as all figures
    of several labels do. Labels without any figure are left out.
    """
    figures = figures[:, np.isfinite(figures[0])]
    if not figures.shape[1]:
        return np.full(len(figures), np.nan)
    apart = figures - figures[0]
    known = np.isfinite(apart)
    sums = np.where(known, apart, 0).sum(axis=1)
    counted = known.sum(axis=1)
    means = np.divide(sums, counted, out=np.full(len(sums), np.nan), where=counted > 0)
    supposed = np.clip(figures[0] + means[:, np.newaxis], 0, 1)
    return np.where(known, figures, supposed).mean(axis=1)


def whole_figures(
    scored: Scored, figures: Mapping[str, np.ndarray], codes: np.ndarray, draws: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns every metric of the task as a whole `[draws]`: the mean over its labels.

    Accuracy of a multiclass task is the share of examples put into their class.
    Arguments are those of `label_figures`, and what it returned.
    """
    whole = {name: macro(of_labels) for name, of_labels in figures.items()}
    if scored.kind == "multiclass":
        # A class that could not be trained has no column, and none of its examples is a hit.
        known = np.isfinite(scored.target).any(axis=1)
        hit = (np.nan_to_num(scored.target) == scored.decision).all(axis=1)[known]
        shares = [mean(weights, hit) for weights in weights_of(codes[known], draws)]
        whole["accuracy"] = np.concatenate(shares)
    return whole
