"""The figures of one task, chosen for its kind and for its best model."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from clef_jax.evaluate.metrics.calibration import fit_temperature, reliability_curve
from clef_jax.evaluate.report import figures
from clef_jax.evaluate.report.answers import Answers
from clef_jax.evaluate.report.curves import Band, curve_bands
from clef_jax.evaluate.report.figures import Estimate
from clef_jax.evaluate.report.tables import trainings_of
from clef_jax.evaluate.report.verdict import Verdict, ranked
from clef_jax.evaluate.report.words import METRIC_NAMES, entry_name, shown, with_interval
from clef_jax.evaluate.statistics.bootstrap import label_counts
from clef_jax.evaluate.statistics.evaluate import OVER_SEEDS
from clef_jax.evaluate.statistics.predictions import Scored
from clef_jax.evaluate.statistics.subgroups import LARGEST_GAP, subgroup_figures

# Labels whose curves are drawn, those with the most positives.
_CURVES = 3
# Groups of an attribute in a figure.
_GROUPS = 8


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A figure as SVG, and what stands below it."""

    svg: str
    caption: str


def draw(answers: Answers, verdict: Verdict) -> Iterator[Drawn]:
    """Yields the figures of a task, the most telling first; none where nothing could be scored."""
    if not np.isfinite(verdict.score["value"]):
        return
    where = f"{answers.task}, {answers.preset}, lead {answers.lead}"
    metric = verdict.metric
    label = METRIC_NAMES[metric] + _of_unit(answers)
    yield Drawn(
        figures.forest(_estimates(answers), metric, label, f"Models: {where}", _chance(metric)),
        f"{METRIC_NAMES[metric]} of all models with 95 % intervals over patients; bars in grey.",
    )
    if lines := _lines(answers, metric):
        yield Drawn(
            figures.label_efficiency(lines, label, f"Label efficiency: {where}"),
            f"{METRIC_NAMES[metric]} by the share of the training patients, with 95 % bands.",
        )
    trainings = trainings_of(answers, verdict.best)
    bars = trainings_of(answers, verdict.bar) if verdict.bar else []
    if answers.kind == "regression":
        yield _agreement(answers, verdict, trainings[0], where)
    else:
        yield from _classified(answers, verdict, trainings, bars, where)
    yield from _subgroups(verdict, trainings, label, where)


def _of_unit(answers: Answers) -> str:
    unit = answers.about.get("unit", "")
    return f", {shown(unit)}" if answers.kind == "regression" and unit else ""


def _chance(metric: str) -> float | None:
    return 0.5 if metric == "auroc" else None


def _estimates(answers: Answers) -> list[Estimate]:
    return [
        Estimate(entry.name, row["value"], row["low"], row["high"], entry.is_bar)
        for entry, row in ranked(answers)
        if np.isfinite(row["value"])
    ]


def _lines(answers: Answers, metric: str) -> list[figures.Line]:
    """Returns the metric over fractions, of entries that were trained on several."""
    rows = answers.results
    rows = rows[(rows["metric"] == metric) & (rows["label"] == "") & (rows["seed"] == OVER_SEEDS)]
    lines = []
    for (model, mode), of_entry in rows.groupby(["model", "mode"], sort=False):
        found = of_entry.dropna(subset="value").sort_values("fraction")
        if len(found) > 1:
            columns = (found[name].to_numpy() for name in ("fraction", "value", "low", "high"))
            lines.append(figures.Line(entry_name(model, mode), *columns))
    return lines


def _agreement(answers: Answers, verdict: Verdict, training: Scored, where: str) -> Drawn:
    known = np.isfinite(training.target[:, 0])
    rows = answers.results
    rows = rows[(rows["model"] == verdict.best.model) & (rows["mode"] == verdict.best.mode)]
    rows = rows[(rows["label"] == "") & (rows["seed"] == OVER_SEEDS)]
    rows = rows[rows["fraction"] == rows["fraction"].max()].set_index("metric")
    limits = [
        Estimate(name, *(rows.loc[name, bound] for bound in ("value", "low", "high")))
        for name in ("loa_low", "bias", "loa_high")
    ]
    svg = figures.bland_altman(
        training.target[known, 0],
        training.score[known, 0],
        limits,
        shown(answers.about.get("unit", "")),
        f"Bland-Altman: {where}",
    )
    return Drawn(
        svg,
        f"{verdict.best.name}: errors with their bias and 95 % limits of agreement, each with its "
        "interval in grey.",
    )


def _classified(
    answers: Answers,
    verdict: Verdict,
    trainings: Sequence[Scored],
    bars: Sequence[Scored],
    where: str,
) -> Iterator[Drawn]:
    columns = _most_positives(trainings[0])
    if not columns:
        return
    drawn = [curve_bands(trainings, column) for column in columns]
    against: list[tuple[Band, Band] | None] = (
        [
            curve_bands(bars, column) if column in _most_positives(bars[0], None) else None
            for column in columns
        ]
        if bars
        else [None] * len(columns)
    )
    labels = [trainings[0].labels[column] for column in columns]
    dashed = f"; dashed, {verdict.bar.name}" if verdict.bar else ""
    for which, (draw_them, what) in enumerate(
        ((figures.roc, "ROC"), (figures.precision_recall, "Precision and recall"))
    ):
        pairs = [
            figures.Pair(label, best[which], bar[which] if bar else None)
            for label, best, bar in zip(labels, drawn, against, strict=True)
        ]
        yield Drawn(
            draw_them(pairs, f"{what}: {where}"),
            f"{what} of {verdict.best.name} with 95 % bands{dashed}.",
        )
    yield _reliability(answers, verdict, trainings[0], columns[0], where)


def _most_positives(training: Scored, most: int | None = _CURVES) -> list[int]:
    counts = label_counts(training)
    usable = [
        column for column, found in enumerate(counts)
        if found.is_scored and found.positives < found.n
    ]  # fmt: skip
    return sorted(usable, key=lambda column: -counts[column].positives)[:most]


def _reliability(
    answers: Answers, verdict: Verdict, training: Scored, column: int, where: str
) -> Drawn:
    known = np.isfinite(training.target[:, column])
    target, probability = training.target[known, column], training.score[known, column]
    curves = {"as predicted": reliability_curve(target, probability)}
    validation = trainings_of(answers, verdict.best, "validation")[0]
    fitted_on = np.isfinite(validation.target[:, column]) & np.isfinite(validation.score[:, column])
    if fitted_on.any():
        temperature = fit_temperature(
            validation.target[fitted_on, column], validation.score[fitted_on, column]
        )
        name = f"temperature {temperature.value:.2f}, by validation"
        curves[name] = reliability_curve(target, temperature(probability))
    return Drawn(
        figures.reliability(curves, f"Reliability: {where}"),
        f"Reliability of {verdict.best.name} for {shown(training.labels[column])}, over at most 15 "
        "bins of equally many test examples.",
    )


def _subgroups(
    verdict: Verdict, trainings: Sequence[Scored], label: str, where: str
) -> Iterator[Drawn]:
    rows = subgroup_figures(trainings, verdict.metric)
    if not np.isfinite(rows["value"].to_numpy(np.float64)).any():
        return
    is_gap = rows["group"].str.startswith(LARGEST_GAP).to_numpy(bool)
    groups = rows[~is_gap & np.isfinite(rows["value"].to_numpy(np.float64))]
    # Of sites, the largest ones.
    drawn = groups[groups.groupby("attribute")["n"].rank("first", ascending=False) <= _GROUPS]
    estimates = [
        Estimate(
            f"{row.attribute} {row.group} (n={row.n})", row.value, row.low, row.high, bool(row.flag)
        )
        for row in drawn.itertuples()
    ]
    title = f"Subgroups: {where}"
    gaps = "; ".join(_gap(row, verdict.metric) for row in rows[is_gap].itertuples())
    yield Drawn(
        figures.forest(estimates, verdict.metric, label, title, _chance(verdict.metric)),
        f"{verdict.best.name} by subgroup; in grey, with few positives or negatives. {gaps}",
    )


def _gap(row, metric: str) -> str:
    sure = "" if row.low > 0 else ", which may be chance"
    told = with_interval(row.value, row.low, row.high, metric)
    return f"{row.attribute}: {shown(row.group)}, {told}{sure}"
