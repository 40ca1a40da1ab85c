"""Cardiovascular risk, which pretraining was guided by."""

from collections.abc import Mapping

import numpy as np

from clef_jax.evaluate.learned.tasks.task import Task


def _log_risk(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(columns["risk"].astype(np.float64))


LOG_RISK = Task("risk", "Log of the 10-year risk", "R²", ("risk",), _log_risk)
