"""How sure figures are: intervals over patients and seeds, and models compared in pairs."""

from clef_jax.evaluate.statistics.compare import compare_predictions
from clef_jax.evaluate.statistics.evaluate import evaluate_predictions

__all__ = ["compare_predictions", "evaluate_predictions"]
