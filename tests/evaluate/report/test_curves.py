"""Curves against scikit-learn's, and bands that hold them."""

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve, roc_curve

from clef_jax.evaluate.report.curves import curve_bands
from clef_jax.evaluate.statistics.predictions import scored
from tests.predicted import LABELS, predicted


def test_curves_are_scikit_learns():
    predictions = predicted("binary", patients=80, seed=1, splits=("test",))
    training = scored(predictions, "binary", LABELS["binary"], "test")
    y, p = training.target[:, 0], training.score[:, 0]
    roc, precision = curve_bands([training], 0)
    false, true, _ = roc_curve(y, p, drop_intermediate=False)
    assert roc.y == pytest.approx(np.interp(roc.x, false, true))
    precisions, recalls, _ = precision_recall_curve(y, p)
    for recall, found in zip(precision.x, precision.y, strict=True):
        # The threshold that is the first to reach this recall: the last row of those that do.
        reached = np.flatnonzero(recalls >= recall - 1e-9)
        first = reached[recalls[reached] == recalls[reached].min()][-1]
        assert found == pytest.approx(precisions[first])
    for band in (roc, precision):
        inside = (band.low <= band.y + 1e-9) | np.isnan(band.low)
        assert inside.all() and (np.diff(band.x) > 0).all()
    assert np.nanmean(roc.high - roc.low) > 0.02
