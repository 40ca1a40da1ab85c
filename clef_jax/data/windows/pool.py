"""Recordings to windows, read in order by a pool of processes or in this one."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from clef_jax.data.recordings.formats import open_hinted
from clef_jax.data.recordings.recording import Hints, RecordingError
from clef_jax.data.signals import preprocessing, quality
from clef_jax.data.signals.spec import PreprocessingSpec, spec_differences
from clef_jax.data.windows.cut import (
    Windows,
    WindowSettings,
    choose_leads,
    choose_leads_of,
    read_windows,
    require_windows,
)
from clef_jax.data.windows.sources import Failure, Source, open_shards
from clef_jax.processes import WorkerDied, Workers, in_order

# Rows of windows handed over at once: 1.3 MB of ten-second windows.
_ROWS_PER_BLOCK = 64
_FILES_PER_TASK = 16
_RECORDS_PER_SHARD_TASK = 64


@dataclasses.dataclass
class Block:
    """Consecutive windows of one recording.

    Attributes:
        source: The recording.
        windows: Its windows, preprocessed.
        share: The part of the recording's windows that these are, in (0, 1].
        rest: Tasks for the recording's remaining windows, to be run in this order.
    """

    source: Source
    windows: Windows
    share: float
    rest: tuple["Task", ...] = ()


@dataclasses.dataclass(frozen=True)
class Request:
    """How sources are to be read.

    Attributes:
        settings: Which windows of which leads.
        hints: What is said of recordings beside their files.
    """

    settings: WindowSettings
    hints: Hints = Hints()

    @property
    def reading(self) -> dict[str, Any]:
        """What changes how files are read that carry samples alone, by name."""
        return {name: getattr(self.hints, name) for name in ("fs", "lead_names", "units")}


@dataclasses.dataclass(frozen=True)
class Task:
    """Sources to read in one go; or, with `starts`, a range of windows of a single one."""

    sources: tuple[Source, ...]
    starts: np.ndarray | None = None
    share: float = 1.0


def plan_tasks(sources: Sequence[Source]) -> Iterator[Task]:
    """Groups sources, in their order, so that handing over costs little beside reading."""
    for folder, group in itertools.groupby(sources, lambda s: s.file if s.position >= 0 else ""):
        size = _RECORDS_PER_SHARD_TASK if folder else _FILES_PER_TASK
        while batch := tuple(itertools.islice(group, size)):
            yield Task(batch)


def _stored_flag(x: np.ndarray, spec: PreprocessingSpec) -> str:
    if not x.any():
        return quality.FLAT
    judged = preprocessing.in_ecg_band(x, spec)
    return quality.NOISE if quality.is_noise(judged, spec.fs) else quality.OK


def _require_readable(shards, settings: WindowSettings) -> None:
    """Raises `RecordingError` where the shards do not hold what the encoder sees."""
    if differing := spec_differences(shards.spec, settings.preprocessing):
        raise RecordingError(
            f"{shards.folder}: the shards' preprocessing is not the encoder's: {differing}; embed "
            "the recordings themselves, or write shards for this encoder (--spec)"
        )
    if settings.spec != shards.spec or settings.channels > 1:
        raise RecordingError(
            f"{shards.folder}: shards hold one lead each of {shards.spec.seconds:g} s; for other "
            "windows, or an encoder of several leads, embed the recordings themselves"
        )


def _read_shards(task: Task, settings: WindowSettings) -> list[Block | Failure]:
    shards = open_shards(task.sources[0].file)
    _require_readable(shards, settings)
    spec, names = shards.spec, shards.montage.leads
    results: list[Block | Failure] = []
    wanted: list[tuple[Source, int]] = []
    for source in task.sources:
        found = [names[i] for i in shards.lead_ids[source.position] if i >= 0]
        try:
            slots = choose_leads(found, settings, f"{source.file}: {source.record}")
            wanted += [(source, slot) for slot in slots]
        except RecordingError as error:
            results.append(Failure(source, str(error)))
    if not wanted:
        return results
    steps = shards.read([s.position for s, _ in wanted], [slot for _, slot in wanted])
    x = preprocessing.normalise(steps[:, None], spec)[:, 0]
    for source, rows in itertools.groupby(range(len(wanted)), lambda row: wanted[row][0]):
        rows = list(rows)
        windows = Windows(
            x=x[rows, :, None].astype(np.float32),
            lead=[names[shards.lead_ids[source.position, wanted[row][1]]] for row in rows],
            start_s=np.zeros(len(rows)),
            quality=[_stored_flag(x[row], spec) for row in rows],
            fs=spec.fs,
        )
        results.append(Block(source, windows, 1.0))
    return results


def _read_file(source: Source, request: Request, starts: np.ndarray | None, share: float) -> Block:
    settings = request.settings
    recording = open_hinted(source.file, request.hints)
    header = recording.header
    positions = choose_leads_of(recording, settings)
    rest: tuple[Task, ...] = ()
    if starts is None:
        starts = require_windows(header.samples, header.fs, settings, source.file)
        size = max(1, _ROWS_PER_BLOCK // len(positions))
        parts = [starts[i : i + size] for i in range(0, len(starts), size)]
        share = len(parts[0]) / len(starts)
        rest = tuple(Task((source,), part, len(part) / len(starts)) for part in parts[1:])
        starts = parts[0]
    return Block(source, read_windows(recording, positions, starts, settings), share, rest)


def run_task(task: Task, request: Request) -> list[Block | Failure]:
    """Reads and preprocesses a task's sources; one that fails gives a `Failure`, no exception."""
    if _is_of_shards(task):
        try:
            return _read_shards(task, request.settings)
        except Exception as error:
            return [Failure(source, _explain(error)) for source in task.sources]
    results: list[Block | Failure] = []
    for source in task.sources:
        try:
            results.append(_read_file(source, request, task.starts, task.share))
        except Exception as error:
            results.append(Failure(source, _explain(error)))
    return results


def _explain(error: Exception) -> str:
    """Returns the message; with the type where it is none of ours, which name file and remedy."""
    return str(error) if isinstance(error, RecordingError) else f"{type(error).__name__}: {error}"


def read_sources(
    sources: Sequence[Source], request: Request, workers: int
) -> Iterator[Block | Failure]:
    """Yields the sources' blocks in order, those of one source one after another.

    A source whose reader dies, twice, fails; others are not disturbed.

    Args:
        sources: What to read.
        request: How.
        workers: Reading processes; 0 reads in this one. They are there until the generator is
            closed or exhausted.

    Raises:
        WorkersCannotStart: No process can be started.
    """
    read = functools.partial(run_task, request=request)
    if not workers:
        yield from _read_here(plan_tasks(sources), read)
        return
    with Workers(workers, attempts=2) as pool:
        for in_shards, tasks in itertools.groupby(plan_tasks(sources), key=_is_of_shards):
            if in_shards:  # One batched read costs less than handing its result over.
                yield from _read_here(tasks, read)
            else:
                yield from _read_in(pool, tasks, read)


def _read_here(tasks: Iterable[Task], read: Callable) -> Iterator[Block | Failure]:
    for task in tasks:
        for result in read(task):
            yield result
            yield from _read_here(getattr(result, "rest", ()), read)


def _read_in(pool: Workers, tasks: Iterable[Task], read: Callable) -> Iterator[Block | Failure]:
    for task, results in in_order(pool, read, tasks, _split):
        if isinstance(results, WorkerDied):
            (source,) = task.sources
            results = [Failure(source, _explain_death(source, results))]
        for result in results:
            yield result
            yield from _read_in(pool, getattr(result, "rest", ()), read)


def _split(task: Task) -> list[Task]:
    return [dataclasses.replace(task, sources=(source,)) for source in task.sources]


def _is_of_shards(task: Task) -> bool:
    return task.sources[0].position >= 0


def _explain_death(source: Source, death: WorkerDied) -> str:
    return (
        f"{source.file}: the process that read it died (exit code {death.exit_code}), and so did "
        "the next one: out of memory, or by a fault of the format's library; try the file alone"
    )
