"""Figures of predictions, each for many weightings of the same rows at once.

Every metric takes `weights [draws, n]`, how often each row counts: a row of ones gives the figure
of the sample itself, a bootstrap's counts that of its resamples. A row of weight 2 counts as two
equal rows. What depends on the order of the scores sorts them once for all draws.
"""

from clef_jax.evaluate.metrics.classification import (
    CLASSIFICATION,
    auprc,
    auroc,
    brier,
    classification_figures,
    ece,
    ranking_figures,
    youden_threshold,
)
from clef_jax.evaluate.metrics.regression import REGRESSION, mae, regression_figures, rmse

LOWER_IS_BETTER = frozenset({"brier", "ece", "mae", "rmse"})

__all__ = [
    "CLASSIFICATION",
    "LOWER_IS_BETTER",
    "REGRESSION",
    "auprc",
    "auroc",
    "brier",
    "classification_figures",
    "ece",
    "mae",
    "ranking_figures",
    "regression_figures",
    "rmse",
    "youden_threshold",
]
