"""From the parts of a run to its tables: predictions, results, comparisons, tasks."""

import importlib.metadata
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import clef_jax
from clef_jax.evaluate.asking.encoders import Contestant, is_untrained, overlap
from clef_jax.evaluate.asking.question import Question
from clef_jax.evaluate.asking.results import (
    Parts,
    ResultsError,
    digest,
    read_tables,
    write_errors,
    write_parquet,
)
from clef_jax.evaluate.statistics import compare_predictions, evaluate_predictions
from clef_jax.evaluate.tasks.task import label_counts
from clef_jax.evaluate.windows.inputs import Unread
from clef_jax.files import write_json

GROUP = ("task", "preset", "lead")
_PACKAGES = ("jax", "numpy", "scipy", "pandas", "scikit-learn")


def require_same(question: Question, encoders: Sequence[Contestant], parts: Parts) -> None:
    """Checks that what a folder holds of a question can stand beside what is to come.

    Raises:
        ResultsError: It holds predictions of other examples, or of other weights by the name of one
            of the encoders.
    """
    wanted = (question.examples.split_hash, question.examples.label_hash)
    weights = {(one.name, one.seed if is_untrained(one) else None): one.weights for one in encoders}
    for path, about in parts.tables("predictions"):
        slot, found = about["slot"], (about["split_hash"], about["label_hash"])
        if _group(slot) != _group_of(question):
            continue
        here = weights.get((slot["model"], None)) or weights.get((slot["model"], slot["seed"]))
        if about["fingerprint"] and here and about["fingerprint"] != here:
            raise ResultsError(
                f"{path}: {slot['model']} was another encoder there (SHA-256 of its weights "
                f"{about['fingerprint'][:12]}, now {here[:12]}), and results of both would count "
                "as one model's; choose another --out, or rename its folder"
            )
        if found != wanted:
            raise ResultsError(
                f"{path}: {question.info.name} was asked of other examples there (hashes of splits "
                f"and labels {', '.join(found)}, now {', '.join(wanted)}), and results of both "
                "cannot be compared; choose another --out"
            )


def evaluate_question(question: Question, parts: Parts, record: Mapping[str, Any]) -> None:
    """Computes results and comparisons of a question, unless they are there for its predictions.

    Args:
        question: What was asked.
        parts: With its predictions.
        record: Of the question, as `describe_question` makes it; kept with the results.
    """
    group = _group_of(question)
    slot = dict(zip(GROUP, group, strict=True))
    made = [(p, a) for p, a in parts.tables("predictions") if _group(a["slot"]) == group]
    key = digest(sorted(about["key"] for _, about in made))
    done = [parts.about(kind, slot) or {} for kind in ("results", "comparisons")]
    if all(about.get("key") == key for about in done):
        return
    before = done[0].get("record", {})
    kept = {**before.get("overlap", {}), **record["overlap"]}
    commands = list(dict.fromkeys([*before.get("commands", ()), *record["commands"]]))
    record = {**record, "overlap": kept, "commands": commands}
    predictions = read_tables([path for path, _ in made])
    kind = question.info.kind
    results = evaluate_predictions(predictions, kind)
    parts.write("results", slot, results, {"key": key, "record": record})
    parts.write("comparisons", slot, compare_predictions(predictions, kind), {"key": key})


def write_tables(out: pathlib.Path, parts: Parts) -> int:
    """Writes the tables of all parts, tasks.json and errors.csv; returns the number of errors."""
    for kind in ("predictions", "results", "comparisons"):
        paths = [path for path, _ in parts.tables(kind)]
        if paths:
            write_parquet(out / f"{kind}.parquet", read_tables(paths))
    write_json(out / "tasks.json", [about["record"] for _, about in parts.tables("results")])
    unread = {
        (one.file, one.example, one.error): one.readable
        for _, about in parts.tables("predictions")
        for one in map(Unread._make, about["unread"])
    }
    write_errors(out / "errors.csv", sorted(unread))
    return sum(not readable for readable in unread.values())


def describe_question(
    question: Question, encoders: Sequence[Contestant], command: str
) -> dict[str, Any]:
    """Returns the record of a question in tasks.json."""
    info, table = question.info, question.examples.table
    tested = table["patient"][table["split"] == "test"].astype(str)
    shown = ("name", "kind", "classes", "unit", "source", "licence", "access", "citation")
    preparation = question.preparation
    return {
        **{name: getattr(info, name) for name in shown},
        "preset": question.preset,
        "lead": question.lead,
        "notes": question.examples.notes,
        "counts": label_counts(info, question.examples),
        "split_hash": question.examples.split_hash,
        "label_hash": question.examples.label_hash,
        "preparation": preparation.hash if preparation else "the encoder's own",
        "overlap": {one.name: overlap(one.encoder, tested) for one in encoders},
        "commands": [command],
        "versions": {
            "clef_jax": clef_jax.__version__,
            **{name: importlib.metadata.version(name) for name in _PACKAGES},
        },
    }


def _group(slot: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(slot[name] for name in GROUP)


def _group_of(question: Question) -> tuple[str, str, str]:
    return question.info.name, question.preset, question.lead
