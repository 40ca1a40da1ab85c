"""Quick readings of an encoder: does it know a record again, can a linear map read the patient."""

import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

_RIDGE_PENALTIES = np.logspace(-2, 5, 29)


def retrieval_at_1(first: np.ndarray, second: np.ndarray) -> float:
    """Returns the share of first views whose nearest second view, by cosine, is their own.

    Args:
        first: Embeddings `[n, D]` of one view of n patients.
        second: Embeddings `[n, D]` of another view of the same patients, in the same order.
    """
    first, second = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (first, second))
    nearest = np.argmax(first @ second.T, axis=1)
    return float(np.mean(nearest == np.arange(len(first))))


def ridge_r2(
    train_z: np.ndarray, train_y: np.ndarray, test_z: np.ndarray, test_y: np.ndarray
) -> float:
    """Returns R^2 on test records of a ridge regression, its penalty chosen on the training ones.

    NaN where there are too few records with a target: 10 to train on, 2 to test on.

    Args:
        train_z: Embeddings `[n, D]`.
        train_y: Targets `[n]`; records whose target is not finite are left out.
        test_z: Embeddings `[m, D]` of other patients.
        test_y: Their targets `[m]`.
    """
    train, test = np.isfinite(train_y), np.isfinite(test_y)
    if train.sum() < 10 or test.sum() < 2:
        return float("nan")
    probe = make_pipeline(StandardScaler(), RidgeCV(alphas=_RIDGE_PENALTIES))
    probe.fit(train_z[train].astype(np.float64), train_y[train])
    return float(probe.score(test_z[test].astype(np.float64), test_y[test]))
