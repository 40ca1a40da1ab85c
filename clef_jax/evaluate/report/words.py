"""Figures and intervals as text, and names that are safe to print."""

import math

METRIC_NAMES = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "brier": "Brier",
    "ece": "ECE",
    "sensitivity_at_90_specificity": "Sens. at 90 % spec.",
    "accuracy": "Accuracy",
    "f1": "F1",
    "mae": "MAE",
    "rmse": "RMSE",
    "r2": "R²",
    "bias": "Bias",
    "loa_low": "Lower limit",
    "loa_high": "Upper limit",
    "spearman": "Spearman",
}
IN_UNITS = frozenset({"mae", "rmse", "bias", "loa_low", "loa_high"})

NOTHING = "–"
_LONGEST = 48


def number(value: float, metric: str) -> str:
    """Returns a figure with as many digits as its metric deserves."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return f"{value:.2f}" if metric in IN_UNITS else f"{value:.3f}"


def count(number: float) -> str:
    """Returns how many, as a table may have it: whole, perhaps as a float, or unknown."""
    return f"{int(number):,}" if math.isfinite(number) else NOTHING


def with_interval(value: float, low: float, high: float, metric: str) -> str:
    """Returns a figure and its 95 % interval in brackets."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if not (math.isfinite(low) and math.isfinite(high)):
        return f"{number(value, metric)} [unknown]"
    return f"{number(value, metric)} [{number(low, metric)}, {number(high, metric)}]"


def signed(value: float, low: float, high: float, metric: str) -> str:
    """Returns a difference with its sign and its 95 % interval."""
    digits = 2 if metric in IN_UNITS else 3
    if not math.isfinite(low):
        return f"{value:+.{digits}f} [unknown]"
    return f"{value:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def p_value(p: float) -> str:
    """Returns a p-value, or why there is none."""
    if not math.isfinite(p):
        return "not tested"
    if p < 0.0001:
        return "<0.0001"
    return f"{p:.4f}" if p < 0.1 else f"{p:.2f}"


def shown(name: str, longest: int = _LONGEST) -> str:
    """Returns a name on one line, without characters that cannot be printed, cut where long."""
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(name))
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def entry_name(model: str, mode: str) -> str:
    """Returns how a model is called in tables and figures: with its mode."""
    return f"{shown(model)} ({mode})"
