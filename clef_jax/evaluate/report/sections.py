"""One task's part of the page: everything as text that is ready to be put into a template."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from clef_jax.evaluate.report.answers import Answers
from clef_jax.evaluate.report.pictures import Drawn
from clef_jax.evaluate.report.tables import confusion, metrics_of, results_table
from clef_jax.evaluate.report.verdict import Entry, Verdict
from clef_jax.evaluate.report.words import (
    METRIC_NAMES,
    NOTHING,
    count,
    entry_name,
    p_value,
    shown,
    signed,
    with_interval,
)
from clef_jax.evaluate.statistics.evaluate import UNFLAGGED

# Rows beyond which the table of labels is of the best model and its bar alone.
_MOST_ROWS = 150
_SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Row:
    """Cells as text; a bar's are grey."""

    cells: Sequence[str]
    is_bar: bool = False


@dataclasses.dataclass(frozen=True)
class Table:
    """A table with its heading; the last column may be flags."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Row]
    note: str = ""
    last_is_flag: bool = False


@dataclasses.dataclass(frozen=True)
class Section:
    """What a template shows of one task."""

    anchor: str
    title: str
    best: str
    metric: str
    score: str
    bar: str
    bar_score: str
    difference: str
    p: str
    verdict: str
    sentence: str
    doubts: Sequence[str]
    tables: Sequence[Table]
    provenance: Sequence[tuple[str, str]]
    figures: Sequence[Drawn] = ()
    left_out: str = ""


def make_section(answers: Answers, verdict: Verdict, anchor: str) -> Section:
    """Returns the section of a task, without figures."""
    apart, bar = verdict.difference, verdict.bar_score
    unit = answers.about.get("unit", "") if answers.kind == "regression" else ""
    metric = METRIC_NAMES[verdict.metric] + (f", {shown(unit)}" if unit else "")
    texts: dict[str, Any] = {
        "best": verdict.best.name,
        "score": _interval(verdict.score, verdict.metric),
        "bar": verdict.bar.name if verdict.bar else NOTHING,
        "bar_score": NOTHING if bar is None else _interval(bar, verdict.metric),
        "difference": NOTHING if apart is None else _signed(apart),
        "p": NOTHING if apart is None else p_value(apart["p_holm"]),
        "verdict": verdict.words,
    }
    return Section(
        anchor=anchor,
        title=f"{shown(answers.task)} · {answers.preset} · lead {shown(answers.lead)}",
        metric=metric,
        sentence=_sentence(metric, texts, has_difference=apart is not None),
        doubts=verdict.doubts,
        tables=list(_tables(answers, verdict)),
        provenance=list(_provenance(answers)),
        **texts,
    )


def _interval(row, metric: str) -> str:
    return with_interval(row["value"], row["low"], row["high"], metric)


def _signed(row) -> str:
    return signed(row["difference"], row["low"], row["high"], row["metric"])


def _sentence(metric: str, texts: dict[str, str], *, has_difference: bool) -> str:
    told = f"{texts['best']}: {metric} {texts['score']}"
    if texts["bar"] != NOTHING:
        told += f"; bar {texts['bar']}: {texts['bar_score']}"
    if has_difference:
        told += f"; difference {texts['difference']}, p after Holm {texts['p']}"
    return f"{told}: {texts['verdict']}."


def _tables(answers: Answers, verdict: Verdict) -> Iterator[Table]:
    results = results_table(answers)
    metrics = metrics_of(answers)
    names = [METRIC_NAMES[metric] for metric in metrics]
    is_whole = results["label"].isin(("", UNFLAGGED))
    whole = [
        Row([row.entry.name, row.label or "all", *_cells(row, metrics)], row.entry.is_bar)
        for row in results[is_whole].itertuples()
    ]
    columns = ["Model", "Labels", "n", *names, "Flag"]
    yield Table("All models", columns, whole, last_is_flag=True)
    if (~is_whole).any():
        yield _labels(results[~is_whole], metrics, names, verdict)
    if found := confusion(answers, verdict):
        yield _confusion(*found, verdict)
    if len(answers.comparisons):
        yield _comparisons(answers, verdict)


def _cells(row, metrics: Sequence[str]) -> list[str]:
    figures = []
    for metric in metrics:
        value, low, high = getattr(row, metric)
        figures.append(with_interval(value, low, high, metric))
    return [count(row.n), *figures, row.flag]


def _labels(labels, metrics: Sequence[str], names: Sequence[str], verdict: Verdict) -> Table:
    note = "A label is flagged for fewer than 10 test examples with it, or without it."
    if len(labels) > _MOST_ROWS:
        labels = labels[labels["entry"].isin([verdict.best, verdict.bar])]
        note += " Only the best model and its bar are shown; results.parquet has them all."
    ordered = labels.sort_values(["positives", "label", "place"], ascending=[False, True, True])
    rows = []
    for row in ordered.itertuples():
        prevalence = NOTHING if np.isnan(row.prevalence) else f"{row.prevalence:.3f}"
        cells = [shown(row.label), row.entry.name, count(row.positives), prevalence]
        rows.append(Row([*cells, *_cells(row, metrics)], row.entry.is_bar))
    columns = ["Label", "Model", "Positives", "Prevalence", "n", *names, "Flag"]
    return Table("Labels", columns, rows, note, last_is_flag=True)


def _confusion(classes: Sequence[str], counts: np.ndarray, verdict: Verdict) -> Table:
    rows = []
    for label, row in zip(classes, counts, strict=True):
        share = row / max(row.sum(), 1)
        cells = [f"{n:,} ({part:.0%})" for n, part in zip(row, share, strict=True)]
        rows.append(Row([shown(label), *cells]))
    columns = ["True class", *(f"as {shown(label)}" for label in classes)]
    return Table(f"Confusion of {verdict.best.name}", columns, rows)


def _comparisons(answers: Answers, verdict: Verdict) -> Table:
    rows = answers.comparisons
    rows = rows[rows["fraction"] == rows["fraction"].max()]
    if verdict.difference is not None:
        pair = {verdict.difference["model_a"], verdict.difference["model_b"]}
        of_pair = rows["model_a"].isin(pair) & rows["model_b"].isin(pair)
        of_pair &= rows["mode"] == verdict.best.mode
    else:
        of_pair = rows["label"] == ""
    rows = rows[(rows["label"] == "") | of_pair]
    return Table(
        "Differences",
        ["First", "Second", "Metric", "Label", "First less second", "p", "p (Holm)", "n"],
        [
            Row([
                entry_name(row["model_a"], row["mode"]), shown(row["model_b"]),
                METRIC_NAMES[row["metric"]], shown(row["label"]) or "all", _signed(row),
                p_value(row["p"]), p_value(row["p_holm"]), count(row["n"]),
            ])
            for _, row in rows.iterrows()
        ],
        "On the examples that all models answered; single labels for the best model and its bar.",
    )  # fmt: skip


def _provenance(answers: Answers) -> Iterator[tuple[str, str]]:
    about = answers.about
    for (model, mode), rows in answers.results.groupby(["model", "mode"], sort=False):
        prints = sorted(set(rows["fingerprint"].astype(str)) - {"", "nan"})
        if prints:
            yield f"weights of {Entry(model, mode).name}", ", ".join(prints)
    for name in ("preparation", "split_hash"):
        values = sorted(set(answers.results[name].astype(str)) - {"", "nan"})
        yield name.replace("_", " "), ", ".join(values) or "not said"
    yield "preset, lead", f"{answers.preset}, {answers.lead}"
    for split in _SPLITS:
        counts = about.get("counts", {}).get(split)
        if counts:
            yield split, ", ".join(f"{shown(name)} {count:,}" for name, count in counts.items())
    overlap = about.get("overlap") or "unknown: the run does not say"
    yield "test patients among those pretrained on", _told(overlap)
    for name in ("source", "licence", "access", "citation", "versions", "commands"):
        if about.get(name):
            yield name, _told(about[name])
    for note in about.get("notes", ()):
        yield "note", str(note)
    if answers.errors:
        yield "errors", f"{answers.errors:,} lines in errors.csv of the runs"


def _told(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {told}" for name, told in value.items())
    if isinstance(value, list):
        return "; ".join(map(str, value))
    return str(value)
