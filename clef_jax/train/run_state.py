"""How far a run is, read from its folder, be it that it goes on or has ended."""

import contextlib
import json
import math
import pathlib
import statistics
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from clef_jax.checkpoints.meta import (
    CHECKPOINTS,
    CheckpointError,
    read_meta,
    require_whole,
    steps_in,
)
from clef_jax.checkpoints.upgrades import upgraded_meta
from clef_jax.errors import ClefError
from clef_jax.files import has_sums, holder_of
from clef_jax.train.metrics import METRICS, read_metrics

# What a run writes to its folder besides metrics and checkpoints: settings and record when it
# starts, a report when it ends.
CONFIG, RECORD, SUMMARY = "config.json", "run.json", "summary.json"
LOCK = ".lock"
UNVALIDATED = "unvalidated"

# Rows whose rates are looked at.
_RECENT = 10


class RunStateError(ClefError):
    """A file of a run's folder is damaged; the message says which, and what to do."""


class Saved(NamedTuple):
    """A checkpoint on disk.

    Attributes:
        path: Its folder.
        has_sums: Whether there are checksums, by which it was compared.
        fault: What is damaged, None if nothing was found to be.
    """

    path: pathlib.Path
    has_sums: bool
    fault: str | None


class RunState(NamedTuple):
    """How far a run is, as far as it has written: rows and checkpoints come now and then.

    Attributes:
        holder: Who runs it: process, host, since when; None if it does not run.
        ended: How it ended, as `Outcome.status`; None if it runs, or left no report.
        model: Name of the encoder.
        method: Name of what teaches it.
        step: Steps done.
        steps: Of the whole run, if that is known.
        steps_per_epoch: If that is known.
        records_per_s: Of late, without evaluations and other pauses, if there are rows of it.
        steps_per_s: Likewise.
        rates: The latest value of whatever else `perf/` measures, by its name there.
        evaluations: The latest value of all else that is measured, by name, each with its step.
        newest: The newest checkpoint, if there is one.
        mesh: As `run_record` has it, if that is known.
        versions: Likewise.
    """

    holder: str | None
    ended: str | None
    model: str
    method: str
    step: int
    steps: int | None
    steps_per_epoch: int | None
    records_per_s: float | None
    steps_per_s: float | None
    rates: Mapping[str, float]
    evaluations: Mapping[str, tuple[int, float]]
    newest: Saved | None
    mesh: Mapping[str, Any] | None
    versions: Mapping[str, str] | None


def is_run(folder: pathlib.Path) -> bool:
    """Tells whether a folder is a run's."""
    return any((folder / name).is_file() for name in (CONFIG, RECORD))


def read_run_state(folder: pathlib.Path) -> RunState:
    """Returns how far a run is, without a trace that the run could notice.

    Args:
        folder: The run's, see `is_run`.

    Raises:
        RunStateError: A file there is damaged, other than those of checkpoints.
        CheckpointError: A later release wrote its checkpoint.
    """
    holder = holder_of(folder / LOCK)
    newest = _newest_checkpoint(folder)
    rows = _rows_in(folder)
    with _reading(folder / SUMMARY) as path:
        report = _json(path) if path.is_file() else {}
        ended, reported = report.get("status"), int(report.get("step", 0))
    record, source = _record_of(folder, newest)
    with _reading(source):
        config = record["config"]
        measured = [{k: v for k, v in row.items() if k.startswith("perf/")} for _, row in rows]
        speeds = [row["perf/records_per_s"] for _, row in rows if "perf/records_per_s" in row]
        records_per_s = statistics.median(speeds[-_RECENT:]) if speeds else None
        saved = 0 if newest is None else int(newest.path.name)
        return RunState(
            holder=holder,
            ended=None if holder else ended,
            model=config["model"],
            method=config["method"]["name"],
            step=max(saved, reported, rows[-1][0] if rows else 0),
            steps=int(record.get("steps") or report.get("steps") or config["steps"]) or None,
            steps_per_epoch=int(record.get("steps_per_epoch", 0)) or None,
            records_per_s=records_per_s,
            steps_per_s=records_per_s and records_per_s / config["batch_size"],
            rates={
                name.removeprefix("perf/"): value
                for name, value in next(filter(None, reversed(measured)), {}).items()
                if name != "perf/records_per_s"
            },
            evaluations={
                name: (step, value)
                for step, row in rows
                for name, value in row.items()
                if name != "step" and not name.startswith(("train/", "perf/"))
            },
            newest=newest,
            mesh=record.get("mesh"),
            versions=record.get("versions"),
        )


def _newest_checkpoint(folder: pathlib.Path) -> Saved | None:
    while found := _checkpoints_in(folder):
        path, fault = found[-1], None
        compared = has_sums(path)
        try:
            require_whole(path)
        except (CheckpointError, FileNotFoundError) as error:
            fault = str(error)
        # A run removes checkpoints as it goes on, but never its newest.
        if fault is None or _checkpoints_in(folder)[-1:] == [path]:
            return Saved(path, compared, fault)
    return None


def _checkpoints_in(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the checkpoints of a run by their steps."""
    places = (folder / CHECKPOINTS, folder / UNVALIDATED / CHECKPOINTS)
    paths = [place / str(step) for place in places for step in steps_in(place)]
    return sorted(paths, key=lambda path: int(path.name))


def _rows_in(folder: pathlib.Path) -> list[tuple[int, dict[str, float]]]:
    """Returns the rows of a run's metrics, each with its step."""
    with _reading(folder / METRICS) as path:
        rows = read_metrics(path) if path.is_file() else []
        for row in rows:
            for name, value in row.items():
                if not isinstance(value, int | float) or not math.isfinite(value):
                    raise ValueError(f"{name} is {value!r:.80}, expected a number")
        return [(int(row["step"]), row) for row in rows]


def _record_of(
    folder: pathlib.Path, newest: Saved | None
) -> tuple[Mapping[str, Any], pathlib.Path]:
    """Returns a run's `run_record`, or as much of it as there is, and where it stands.

    At first runs wrote it to their checkpoints alone, where what follows is only asked of whole
    ones.
    """
    with _reading(folder / RECORD) as path:
        if path.is_file():
            return _json(path), path
    if newest is not None and newest.fault is None:
        return read_meta(newest.path), newest.path
    with _reading(folder / CONFIG) as path:
        return upgraded_meta({"config": _json(path)}), path


def _json(path: pathlib.Path) -> dict[str, Any]:
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"found {found!r:.80}, expected an object")
    return found


@contextlib.contextmanager
def _reading(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Turns what damage to a file makes a block raise into a `RunStateError`."""
    try:
        yield path
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise RunStateError(
            f"{path}: damaged ({type(error).__name__}: {error}); move it away: the run does "
            "without, and its next start writes it anew"
        ) from None
