"""Folders as an evaluation writes them, of simulated models, for tests of the report."""

import json
import pathlib

import pandas as pd

from clef_jax.evaluate.statistics import compare_predictions, evaluate_predictions
from tests.predicted import LABELS, predicted

MODELS = (
    ("clef_small", "probe", 3.0),
    ("random clef_small", "probe", 1.0),
    ("majority", "baseline", 0.0),
)


def task(kind, *, fractions=(0.1, 1.0), models=MODELS, **arguments):
    """Returns predictions of one task at several fractions, the smaller the worse."""
    return pd.concat(
        [
            predicted(
                kind,
                models=[(name, mode, strength * fraction**0.3) for name, mode, strength in models],
                fraction=fraction,
                task=f"simulated/{kind}",
                **arguments,
            )
            for fraction in fractions
        ],
        ignore_index=True,
    )


def write_run(folder, tasks, *, computed=True, resamples=100, permutations=100, **about):
    """Writes a run's folder.

    Args:
        tasks: {kind: predictions}, each of one task.
        computed: Whether results and comparisons are written too.
        about: Fields of the records in tasks.json.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True)
    tables = {"predictions": list(tasks.values()), "results": [], "comparisons": []}
    if computed:
        for kind, predictions in tasks.items():
            results = evaluate_predictions(predictions, kind, resamples=resamples)
            results = results.assign(fingerprint="f1n6e7", preparation="clean", split_hash="5p117")
            tables["results"].append(results)
            tables["comparisons"].append(
                compare_predictions(predictions, kind, permutations=permutations)
            )
    for name, of_tasks in tables.items():
        if of_tasks:
            pd.concat(of_tasks).to_parquet(folder / f"{name}.parquet", index=False)
    records = [_record(kind, predictions) | about for kind, predictions in tasks.items()]
    (folder / "tasks.json").write_text(json.dumps(records))
    (folder / "errors.csv").write_text("file,example,error\nlost.hea,7,not found\n")
    return folder


def _record(kind, predictions):
    counts = {}
    for split, rows in predictions.groupby("split"):
        counts[split] = {
            "examples": rows["example"].nunique(),
            "patients": rows["patient"].nunique(),
        }
    return {
        "name": predictions["task"].iloc[0],
        "kind": kind,
        "classes": LABELS[kind],
        "unit": "mmHg" if kind == "regression" else "",
        "source": "simulated cohort 1.0",
        "licence": "CC0",
        "access": "open",
        "citation": "nobody",
        "preset": predictions["preset"].iloc[0],
        "lead": predictions["lead"].iloc[0],
        "split_hash": "5p117",
        "notes": ["label XYZ left out: no positive in train"],
        "counts": counts,
        "overlap": {"clef_small": "0 of 60"},
        "commands": ["clef-jax evaluate --task simulated"],
        "versions": {"clef_jax": "0.2.0"},
    }
