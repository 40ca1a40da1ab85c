"""The figures of a report, each narrow enough for a telephone; a wide page has several in a row."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from clef_jax.evaluate.metrics.calibration import Reliability
from clef_jax.evaluate.report.curves import Band
from clef_jax.evaluate.report.svg import drawing, to_svg
from clef_jax.evaluate.report.words import shown, with_interval

_WIDTH, _HEIGHT = 3.5, 3.2
_COLOURS = ("#1b5e9c", "#c4531c", "#3a7d44", "#7b4f9d", "#8a6d1f", "#444444", "#b03060", "#20808d")
_BAR_COLOUR, _BEST_COLOUR = "#8a8a8a", "#1b5e9c"
_MANY_POINTS = 300


class Estimate(NamedTuple):
    """A named figure with its interval; bars are drawn in grey."""

    name: str
    value: float
    low: float
    high: float
    is_bar: bool = False


class Line(NamedTuple):
    """A figure over training fractions, each field but the name `[fractions]`."""

    name: str
    fraction: np.ndarray
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Pair(NamedTuple):
    """A label's curve of the best model, and of its bar where that has one."""

    label: str
    best: Band
    bar: Band | None


def forest(
    estimates: Sequence[Estimate], metric: str, label: str, title: str, chance: float | None = None
) -> str:
    """Draws figures one below the other, each under its name."""
    with drawing(_WIDTH, 0.75 + 0.42 * len(estimates)) as figure:
        axes = figure.subplots()
        for row, estimate in enumerate(estimates):
            colour = _BAR_COLOUR if estimate.is_bar else _BEST_COLOUR
            axes.plot([estimate.low, estimate.high], [-row, -row], color=colour, linewidth=2)
            axes.plot([estimate.value], [-row], "o", color=colour, markersize=5)
            told = with_interval(*estimate[1:4], metric)
            axes.annotate(
                f"{shown(estimate.name, 34)}: {told}",
                (0, -row + 0.28),
                xycoords=("axes fraction", "data"),
                fontsize=8,
            )
        if chance is not None:
            axes.axvline(chance, color="black", linewidth=0.8, linestyle=":")
        axes.set(ylim=(-len(estimates) + 0.5, 0.75), yticks=[], xlabel=label)
        axes.spines["left"].set_visible(False)
        return to_svg(figure, title)


def roc(pairs: Sequence[Pair], title: str) -> str:
    """Draws ROC curves with their bands; dashed, the bar's."""
    return _bands(pairs, title, "1 - specificity", "sensitivity", diagonal=True)


def precision_recall(pairs: Sequence[Pair], title: str) -> str:
    """Draws precision-recall curves with their bands; dashed, the bar's."""
    return _bands(pairs, title, "sensitivity (recall)", "precision", diagonal=False)


def _bands(pairs: Sequence[Pair], title: str, x: str, y: str, *, diagonal: bool) -> str:
    with drawing(_WIDTH, _HEIGHT) as figure:
        axes = figure.subplots()
        for (label, best, bar), colour in zip(pairs, _COLOURS, strict=False):
            axes.fill_between(best.x, best.low, best.high, color=colour, alpha=0.15, linewidth=0)
            axes.plot(best.x, best.y, color=colour, linewidth=1.6, label=shown(label, 24))
            if bar is not None:
                axes.plot(bar.x, bar.y, color=colour, linewidth=1, linestyle="--")
        if diagonal:
            axes.plot([0, 1], [0, 1], color="black", linewidth=0.6, linestyle=":")
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel=x, ylabel=y)
        _legend(axes)
        return to_svg(figure, title)


def reliability(curves: Mapping[str, Reliability], title: str) -> str:
    """Draws what came of probabilities, by the name of each curve."""
    with drawing(_WIDTH, _HEIGHT) as figure:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color="black", linewidth=0.6, linestyle=":")
        for (name, curve), colour in zip(curves.items(), _COLOURS, strict=False):
            axes.plot(
                curve.predicted, curve.observed, "o-", color=colour, markersize=3,
                linewidth=1.2, label=shown(name, 40),
            )  # fmt: skip
        axes.set(
            xlim=(0, 1), ylim=(0, 1), xlabel="mean probability in bin", ylabel="share of positives"
        )
        _legend(axes)
        return to_svg(figure, title)


def bland_altman(
    target: np.ndarray, predicted: np.ndarray, limits: Sequence[Estimate], unit: str, title: str
) -> str:
    """Draws errors over the mean of target and prediction, with bias and limits of agreement.

    Args:
        target: `[n]`.
        predicted: `[n]`.
        limits: Lower limit, bias and upper limit, each with its interval.
        unit: Of all these.
        title: Of the figure.
    """
    of_unit = f", {unit}" if unit else ""
    with drawing(_WIDTH, _HEIGHT) as figure:
        axes = figure.subplots()
        axes.plot(
            (target + predicted) / 2, predicted - target, "o", color=_BEST_COLOUR, alpha=0.35,
            markersize=2.5, markeredgewidth=0, rasterized=len(target) > _MANY_POINTS,
        )  # fmt: skip
        for limit in limits:
            axes.axhspan(limit.low, limit.high, color=_BAR_COLOUR, alpha=0.25, linewidth=0)
            axes.axhline(limit.value, color="black", linewidth=0.9)
        axes.set(xlabel=f"mean of true and predicted{of_unit}", ylabel=f"predicted - true{of_unit}")
        return to_svg(figure, title)


def label_efficiency(lines: Sequence[Line], label: str, title: str) -> str:
    """Draws a metric over the share of the training patients, a band for each model."""
    with drawing(_WIDTH, _HEIGHT + 0.16 * len(lines)) as figure:
        axes = figure.subplots()
        for line, colour in zip(lines, _COLOURS, strict=False):
            axes.fill_between(
                line.fraction, line.low, line.high, color=colour, alpha=0.13, linewidth=0
            )
            axes.plot(
                line.fraction, line.value, "o-", color=colour, markersize=3, linewidth=1.3,
                label=shown(line.name, 30),
            )  # fmt: skip
        ticks = np.unique(np.concatenate([line.fraction for line in lines]))
        axes.set(xscale="log", xlabel="share of training patients", ylabel=label)
        axes.set_xticks(ticks, [f"{100 * tick:g} %" for tick in ticks])
        axes.minorticks_off()
        figure.legend(loc="outside lower left", frameon=False, fontsize=7.5)
        return to_svg(figure, title)


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=7.5)
