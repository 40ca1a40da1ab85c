"""Quick readings of a representation: what a linear map reads, whether it knows a patient again."""

import numpy as np
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegressionCV, RidgeCV
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

_RIDGE_PENALTIES = np.logspace(-2, 5, 29)
_LOGISTIC_INVERSE_PENALTIES = np.logspace(-4, -1, 4)
_FOLDS = 5


def ridge_predictions(train_z: np.ndarray, train_y: np.ndarray, test_z: np.ndarray) -> np.ndarray:
    """Returns what a ridge regression predicts `[m]`, its penalty chosen by leaving one out.

    Args:
        train_z: Features `[n, D]`, a row a patient; NaN counts as the median.
        train_y: Targets `[n]`, finite.
        test_z: Features `[m, D]` of other patients.
    """
    probe = make_pipeline(*_scaling(), RidgeCV(alphas=_RIDGE_PENALTIES))
    return probe.fit(_wide(train_z), train_y).predict(_wide(test_z))


def logistic_scores(train_z: np.ndarray, train_y: np.ndarray, test_z: np.ndarray) -> np.ndarray:
    """Returns the log odds `[m]` of a logistic regression, its penalty chosen by cross-validation.

    Arguments are those of `ridge_predictions`, with targets 0 and 1, each at least twice.
    """
    rarer = int(min(np.sum(train_y == 1), np.sum(train_y == 0)))
    probe = make_pipeline(
        *_scaling(),
        LogisticRegressionCV(
            Cs=_LOGISTIC_INVERSE_PENALTIES,
            l1_ratios=(0,),
            cv=StratifiedKFold(min(_FOLDS, rarer)),
            scoring="neg_log_loss",
            solver="newton-cholesky",
            use_legacy_attributes=False,
        ),
    )
    return probe.fit(_wide(train_z), train_y).decision_function(_wide(test_z))


def found_again(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns for each first row whether the nearest second row, by cosine, is its own `[n]`.

    Args:
        first: Embeddings `[n, D]` of n patients.
        second: Other embeddings of the same patients, in the same order.
    """
    lengths = (np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-30) for z in (first, second))
    first, second = (z / length for z, length in zip((first, second), lengths, strict=True))
    return np.argmax(first @ second.T, axis=1) == np.arange(len(first))


def _scaling():
    return SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()


def _wide(z):
    return np.asarray(z, np.float64)
