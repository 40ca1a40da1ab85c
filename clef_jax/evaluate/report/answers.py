"""What models of one or several runs answered, by what was asked."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from clef_jax.evaluate.report.runs import EvaluationRunError, Run, groups, of_group, read_run
from clef_jax.evaluate.statistics import compare_predictions, evaluate_predictions
from clef_jax.evaluate.statistics.predictions import ENTRY
from clef_jax.evaluate.statistics.resampling import holm

# What results say of how an entry was made.
_MADE = ("fingerprint", "preparation", "split_hash")


@dataclasses.dataclass(frozen=True)
class Answers:
    """What models answered to one task, asked with one preset and of one lead.

    Attributes:
        task: Its name.
        preset: "clean" or "reference".
        lead: The lead.
        kind: Of the task.
        about: Its record in `tasks.json`; empty where a run has none.
        predictions: As `predictions.COLUMNS`.
        results: As `statistics.evaluate_predictions` returns them.
        comparisons: As `statistics.compare_predictions` does.
        errors: Lines of the runs' errors.csv, of all tasks.
    """

    task: str
    preset: str
    lead: str
    kind: str
    about: Mapping[str, Any]
    predictions: pd.DataFrame
    results: pd.DataFrame
    comparisons: pd.DataFrame
    errors: int


def read_answers(folders: Sequence[str]) -> list[Answers]:
    """Returns the answers of one or more runs' folders, in the order of tasks.

    Results and comparisons are computed where a run lacks them, and comparisons between models of
    several runs as well. Holm's correction is over all tests of the report.

    Args:
        folders: Each with predictions.parquet, and usually results.parquet, comparisons.parquet,
            tasks.json and errors.csv.

    Raises:
        EvaluationRunError: A file is missing or damaged, or runs asked the same of other examples.
        PredictionsError: Predictions that cannot be scored.
    """
    runs = [read_run(pathlib.Path(folder)) for folder in dict.fromkeys(folders)]
    found = dict.fromkeys(group for run in runs for group in groups(run.predictions))
    return _corrected_together([_merged(group, runs) for group in sorted(found)])


def _merged(group: tuple[str, ...], runs: Sequence[Run]) -> Answers:
    having = [run for run in runs if len(of_group(run.predictions, group))]
    about = [_record(run, group) for run in having]
    kind = _kind(group, having, about)
    _require_same_split(group, having, about)
    parts = _renamed_apart([of_group(run.predictions, group) for run in having], having)
    predictions = pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]
    written = [of_group(run.results, group) for run in having]
    comparisons = of_group(having[0].comparisons, group)
    if len(having) > 1 or written[0].empty:
        results = _with_makers(evaluate_predictions(predictions, kind), written)
        comparisons = compare_predictions(predictions, kind)
    else:
        results = written[0].drop_duplicates([*ENTRY, "label", "metric", "seed"])
        if comparisons.empty:
            comparisons = compare_predictions(predictions, kind)
    task, preset, lead = group
    if results.empty:
        raise EvaluationRunError(
            f"{having[0].folder}: {task} has no test predictions; evaluate it into another folder"
        )
    return Answers(
        task=task,
        preset=preset,
        lead=lead,
        kind=kind,
        about=about[0] or {},
        predictions=predictions,
        results=results,
        comparisons=comparisons,
        errors=sum(run.errors for run in having),
    )


def _record(run: Run, group: tuple[str, ...]) -> Mapping[str, Any] | None:
    for task in run.tasks:
        if (task["name"], task.get("preset", group[1]), task.get("lead", group[2])) == group:
            return task
    return None


def _kind(
    group: tuple[str, ...], runs: Sequence[Run], about: Sequence[Mapping[str, Any] | None]
) -> str:
    kinds = {record["kind"] for record in about if record}
    for run in runs:
        kinds |= set(of_group(run.results, group).get("kind", ()))
    if len(kinds) != 1:
        raise EvaluationRunError(
            f"{', '.join(str(run.folder) for run in runs)}: kind of task {group[0]} "
            f"{' and '.join(sorted(kinds)) or 'not said'}; expected one, in tasks.json or "
            "results.parquet"
        )
    return kinds.pop()


def _require_same_split(
    group: tuple[str, ...], runs: Sequence[Run], about: Sequence[Mapping[str, Any] | None]
) -> None:
    hashes: dict[str, pathlib.Path] = {}
    for run, record in zip(runs, about, strict=True):
        if record and record.get("split_hash"):
            found = record["split_hash"] + record.get("label_hash", "")
            hashes.setdefault(found, run.folder)
    if len(hashes) > 1:
        told = ", ".join(f"{folder} {found}" for found, folder in hashes.items())
        raise EvaluationRunError(
            f"{group[0]} ({group[1]}, lead {group[2]}): other examples or splits in each run "
            f"({told}), so their models cannot be compared; report them apart"
        )


def _renamed_apart(parts: Sequence[pd.DataFrame], runs: Sequence[Run]) -> list[pd.DataFrame]:
    """Returns predictions whose models have names of their own.

    What several runs said alike is kept once; where they differ, the folder becomes part of the
    model's name.
    """
    keys = [*ENTRY, "seed", "example", "label"]
    seen: pd.DataFrame | None = None
    renamed = []
    for part, run in zip(parts, runs, strict=True):
        if seen is not None:
            both = part.merge(seen[[*keys, "score"]], on=keys, suffixes=("", "_seen"))
            alike = np.isclose(both["score"], both["score_seen"], equal_nan=True).all()
            others = _of_other_weights(part, seen)
            entries = [*ENTRY, "seed"]
            repeated = pd.MultiIndex.from_frame(part[entries]).isin(
                pd.MultiIndex.from_frame(both[entries])
            )
            if alike and not others:
                part = part[~repeated]
            else:
                clashing = part["model"].isin(others if alike else both["model"].unique())
                name = part["model"].where(~clashing, part["model"] + f" [{run.folder.name}]")
                part = part.assign(model=name)
        seen = part if seen is None else pd.concat([seen, part])
        renamed.append(part)
    return [part for part in renamed if len(part)]


def _of_other_weights(part: pd.DataFrame, seen: pd.DataFrame) -> list[str]:
    """Returns the models of a part whose weights are not those of the same name seen before."""
    if "fingerprint" not in part or "fingerprint" not in seen:
        return []
    makers = ["model", "mode", "seed", "fingerprint"]
    pairs = (
        part[makers]
        .drop_duplicates()
        .merge(seen[makers].drop_duplicates(), on=makers[:3], suffixes=("", "_seen"))
    )
    told = (pairs["fingerprint"] != "") & (pairs["fingerprint_seen"] != "")
    return list(pairs["model"][told & (pairs["fingerprint"] != pairs["fingerprint_seen"])].unique())


def _with_makers(results: pd.DataFrame, written: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Returns computed results with what those of the runs say of how entries were made."""
    known = [table for table in written if not table.empty]
    if not known:
        return results
    entry = [*ENTRY, "seed"]
    makers = pd.concat(known)[[*entry, *_MADE]].drop_duplicates(entry)
    return (
        results.drop(columns=list(_MADE))
        .merge(makers, on=entry, how="left")
        .fillna(dict.fromkeys(_MADE, ""))
    )


def _corrected_together(answers: Sequence[Answers]) -> list[Answers]:
    adjusted = holm(np.concatenate([a.comparisons["p"].to_numpy(np.float64) for a in answers]))
    corrected, start = [], 0
    for one in answers:
        stop = start + len(one.comparisons)
        comparisons = one.comparisons.assign(p_holm=adjusted[start:stop])
        corrected.append(dataclasses.replace(one, comparisons=comparisons))
        start = stop
    return corrected
