"""Linear probes: what a logistic or a ridge regression reads from features that stay as they are.

The protocol is that of arXiv 2602.17531: one-vs-rest logistic regression, its inverse penalty,
standardisation and class weight chosen by the loss on validation.
"""

import itertools
import math
import warnings

import joblib
import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

INVERSE_PENALTIES = (0.01, 0.1, 1.0, 10.0)
STANDARDISED = (True, False)
CLASS_WEIGHTS = (None, "balanced")
RIDGE_PENALTIES = np.logspace(-2, 6, 17)
_MOST_STEPS = 1000
# All that determines a probe's scores besides its rows.
PROTOCOL = {
    "inverse_penalties": INVERSE_PENALTIES,
    "standardised": STANDARDISED,
    "class_weights": CLASS_WEIGHTS,
    "ridge_penalties": RIDGE_PENALTIES.tolist(),
    "most_steps": _MOST_STEPS,
}


def targets_of(table: pd.DataFrame, labels: tuple[str, ...], kind: str, classes: int) -> np.ndarray:
    """Returns float64 `[n, labels]`, NaN where unknown; of a multiclass task a column a class."""
    targets = table[list(labels)].to_numpy(np.float64)
    if kind != "multiclass":
        return targets
    one_hot = (targets == np.arange(classes)).astype(np.float64)
    return np.where(np.isnan(targets), np.nan, one_hot)


def training_rows(table: pd.DataFrame, fraction: float, seed: int = 0) -> np.ndarray:
    """Returns bool `[n]`: the rows of so large a part of the training patients, at least one.

    Of one seed a smaller fraction's patients are among a larger one's.
    """
    train = (table["split"] == "train").to_numpy()
    patients = np.unique(table["patient"].to_numpy(str)[train])
    shuffled = np.random.default_rng(seed).permutation(patients)
    # 0.1 of 30 is 3.0000000000000004 in floating point.
    count = max(1, math.ceil(round(fraction * len(patients), 9)))
    return train & np.isin(table["patient"].to_numpy(str), shuffled[:count])


def probe_scores(
    kind: str,
    features: np.ndarray,
    targets: np.ndarray,
    train: np.ndarray,
    validation: np.ndarray,
    *,
    jobs: int,
) -> np.ndarray:
    """Fits a probe for each label and returns its scores of all rows.

    Args:
        kind: As of `TaskInfo`.
        features: `[n, D]`, finite.
        targets: As of `targets_of`; what is NaN is no row of that label.
        train: bool `[n]`, the rows to learn from.
        validation: bool `[n]`, the rows to choose by.
        jobs: Labels at once.

    Returns:
        float64 `[n, labels]`: probabilities, or values in the target's units. NaN for a label that
        cannot be trained: of a class without a known positive or negative in `train`, or without
        any known row in `validation`. Those of a multiclass task sum to 1 over its classes.
    """
    if not train.any():
        return np.full(targets.shape, np.nan)
    wide = np.asarray(features, np.float64)
    scaled = StandardScaler().fit(wide[train]).transform(wide)
    fit = _ridge if kind == "regression" else _logistic
    with warnings.catch_warnings(), threadpool_limits(1):
        # One that has not converged is judged by its loss on validation like the others.
        warnings.simplefilter("ignore", ConvergenceWarning)
        # Threads share the features and leave with the process. Those of BLAS, with which they
        # would compete, make a fit several times as slow on a machine that does other work.
        columns = joblib.Parallel(jobs, prefer="threads")(
            joblib.delayed(_scores_of_label)(fit, (scaled, wide), target, train, validation)
            for target in targets.T
        )
    scores = np.stack(columns, axis=1)
    if kind == "multiclass":
        total = np.nansum(scores, axis=1, keepdims=True)
        # The regressions are independent, so that all of them may say no.
        scores = np.divide(scores, total, out=np.full_like(scores, np.nan), where=total > 0)
    return scores


def _scores_of_label(fit, features, target, train, validation):
    known = np.isfinite(target)
    train, validation = train & known, validation & known
    is_constant = fit is _logistic and len(np.unique(target[train])) < 2
    if not train.any() or not validation.any() or is_constant:
        return np.full(len(target), np.nan)
    return fit(features, target, train, validation)


def _logistic(features, target, train, validation):
    """Returns the probabilities of the regression with the least log-loss on validation."""
    best, scores = math.inf, np.full(len(target), np.nan)
    y = target[train].astype(int)
    for z, weight in itertools.product(features, CLASS_WEIGHTS):
        rows = z[train]
        # From the strongest penalty on each fit starts where the one before ended.
        regression = LogisticRegression(class_weight=weight, warm_start=True, max_iter=_MOST_STEPS)
        for inverse_penalty in INVERSE_PENALTIES:
            regression.set_params(C=inverse_penalty)
            regression.fit(rows, y)
            found = regression.predict_proba(z)[:, 1]
            loss = log_loss(target[validation], found[validation], labels=[0, 1])
            if loss < best:
                best, scores = loss, found
    return scores


def _ridge(features, target, train, validation):
    """Returns the values of the regression with the least squared error on validation."""
    z, _ = features
    mean, sd = target[train].mean(), target[train].std() or 1.0
    centre = z[train].mean(axis=0)
    u, s, vt = np.linalg.svd(z[train] - centre, full_matrices=False)
    projected, y = (z - centre) @ vt.T, u.T @ ((target[train] - mean) / sd)
    found = [mean + sd * (projected @ (s / (s**2 + penalty) * y)) for penalty in RIDGE_PENALTIES]
    errors = [np.mean((one[validation] - target[validation]) ** 2) for one in found]
    return found[int(np.argmin(errors))]
