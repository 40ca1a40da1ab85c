"""The quick probe: what a linear map reads of age and risk, and how many directions are in use.

A reading during the run, from a thousand held-out patients at most and without clinical claims:
`evaluate` asks the same with a training split, baselines and intervals.
"""

import numpy as np

# A figure of fewer patients would say more about chance than about the encoder.
MIN_PATIENTS = 30

_PENALTIES = np.logspace(-2, 5, 29)
_FOLDS = 5


def ridge_predictions(train_z: np.ndarray, train_y: np.ndarray, test_z: np.ndarray) -> np.ndarray:
    """Returns what a ridge regression predicts `[m]`, its penalty chosen by leaving one out.

    Args:
        train_z: Features `[n, D]`, which are standardised.
        train_y: Targets `[n]`.
        test_z: Features `[m, D]` of others.
    """
    middle, spread = train_z.mean(axis=0), train_z.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    mean = train_y.mean()
    u, s, vt = np.linalg.svd((train_z - middle) / spread, full_matrices=False)
    projected = u.T @ (train_y - mean)

    def error_without_one(penalty: float) -> float:
        kept = s**2 / (s**2 + penalty)
        residual = train_y - mean - u @ (kept * projected)
        leverage = u**2 @ kept + 1 / len(train_y)
        return float(np.mean((residual / (1 - leverage)) ** 2))

    penalty = min(_PENALTIES, key=error_without_one)
    weights = vt.T @ (s / (s**2 + penalty) * projected)
    return mean + (test_z - middle) / spread @ weights


def held_out_r2(z: np.ndarray, y: np.ndarray) -> float:
    """Returns R² of ridge predictions for patients that it was not fitted to, in five folds.

    Args:
        z: Embeddings `[n, D]`, a row a patient.
        y: Targets `[n]`, finite and not all equal.
    """
    z = np.asarray(z, np.float64)
    fold = np.random.default_rng(0).permutation(len(y)) % _FOLDS
    predicted = np.empty(len(y))
    for number in range(_FOLDS):
        test = fold == number
        predicted[test] = ridge_predictions(z[~test], y[~test], z[test])
    return float(1 - np.sum((y - predicted) ** 2) / np.sum((y - y.mean()) ** 2))


def effective_rank(z: np.ndarray) -> float:
    """Returns how many directions the rows of `z [n, D]` vary along.

    It is exp of the entropy of the shares of variance of the principal components: D for a round
    cloud, 1 for a line, to which a collapsed embedding comes down.

    References:
        Roy and Vetterli, The effective rank, EUSIPCO 2007, of the covariance matrix.
    """
    variances = np.linalg.svd(z - z.mean(axis=0), compute_uv=False) ** 2
    shares = variances / max(variances.sum(), 1e-30)
    return float(np.exp(-np.sum(shares * np.log(np.maximum(shares, 1e-30)))))


def read_by_probe(z: np.ndarray, age: np.ndarray, risk: np.ndarray) -> dict[str, float]:
    """Returns `probe/effective_rank` and, where enough is known, `probe/age_r2`, `probe/risk_r2`.

    Args:
        z: Embeddings `[n, D]`, a row a patient.
        age: Years `[n]`, NaN where unknown.
        risk: Percent `[n]`, of which the logarithm is read; NaN where unknown.
    """
    found = {"probe/effective_rank": effective_rank(z)}
    with np.errstate(divide="ignore", invalid="ignore"):
        targets = {"age": np.asarray(age, np.float64), "risk": np.log(np.asarray(risk, np.float64))}
    for name, y in targets.items():
        known = np.isfinite(y)
        if known.sum() >= MIN_PATIENTS and np.ptp(y[known]) > 0:
            found[f"probe/{name}_r2"] = held_out_r2(z[known], y[known])
    return found
