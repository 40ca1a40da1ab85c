"""What needs no encoder: the bars that an embedding must clear.

What is measured of the ECG comes from `learned.plain`: rate, RR statistics, amplitudes of the
waves, QRS width, R to T corrected for rate (a QT without the Q). It needs no further package, its
numbers stand in the report of a pretraining already, and a lead without clear beats gives NaN, no
error; sleepecg and neurokit2 find R peaks as well, but leave the waves to others or need more.
"""

import numpy as np
import pandas as pd

from clef_jax.data.recordings.demographics import parse_sex
from clef_jax.evaluate.learned.plain import PLAIN_FEATURES

HEART_RATE = PLAIN_FEATURES.index("heart rate, 1/min")


def constant_scores(targets: np.ndarray, train: np.ndarray, kind: str) -> np.ndarray:
    """Returns for every row the mean of each label in `train`: a prevalence, or a mean value.

    Args:
        targets: float64 `[n, labels]`, NaN where unknown.
        train: bool `[n]`.
        kind: As of `TaskInfo`.

    Returns:
        float64 `[n, labels]`; NaN for a label of which nothing is known there, or of which all is
        alike, as for probes.
    """
    known = np.isfinite(targets[train])
    total = np.where(known, targets[train], 0.0).sum(axis=0)
    count = known.sum(axis=0)
    mean = np.divide(total, count, out=np.full(targets.shape[1], np.nan), where=count > 0)
    if kind != "regression":
        mean[(mean == 0) | (mean == 1)] = np.nan
    return np.repeat(mean[None], len(targets), axis=0)


def demographics(table: pd.DataFrame) -> np.ndarray | None:
    """Returns float64 `[n, 1 or 2]`, age and sex (male 1) so far as known; None if neither is."""
    columns = []
    if "age" in table:
        columns.append(table["age"].to_numpy(np.float64, na_value=np.nan))
    if "sex" in table:
        sexes = {"male": 1.0, "female": 0.0}
        columns.append(np.array([sexes.get(parse_sex(str(s)) or "", np.nan) for s in table["sex"]]))
    columns = [column for column in columns if np.isfinite(column).any()]
    return np.stack(columns, axis=1) if columns else None


def without_gaps(features: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Returns features with the median in `train` where unknown, and columns that say where.

    Args:
        features: `[n, D]`.
        train: bool `[n]`, at least one.

    Returns:
        float64 `[n, D + m]`, where m columns have gaps in `train`.
    """
    features = np.asarray(features, np.float64)
    missing = ~np.isfinite(features)
    empty = missing[train].all(axis=0)
    known = np.where(missing | empty, np.nan, features)
    median = np.zeros(features.shape[1])
    median[~empty] = np.nanmedian(known[train][:, ~empty], axis=0)
    told = missing[:, missing[train].any(axis=0) & ~empty]
    return np.hstack([np.where(missing | empty, median, features), told])
