"""Recordings to windows, read in order by a pool of processes or in this one."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from clef_jax.data.recordings import RecordingError
from clef_jax.data.recordings.formats import open_hinted
from clef_jax.data.recordings.recording import Hints
from clef_jax.data.windows.cut import (
    Windows,
    WindowSettings,
    choose_leads_of,
    read_windows,
    require_windows,
)
from clef_jax.data.windows.sources import Failure, Source
from clef_jax.data.windows.stored import read_stored
from clef_jax.processes import WorkerDied, Workers, in_order

# Rows of windows handed over at once: 1.3 MB of ten-second windows.
_ROWS_PER_BLOCK = 64
_FILES_PER_TASK = 16
_WINDOWS_PER_SHARD_TASK = 64


@dataclasses.dataclass
class WindowBlock:
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
    rest: tuple["ReadTask", ...] = ()


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
class ReadTask:
    """Sources to read in one go; or, with `starts`, a range of windows of a single one.

    Of a file these are first samples, of shards rows of the index.
    """

    sources: tuple[Source, ...]
    starts: np.ndarray | None = None
    share: float = 1.0


def group_tasks(sources: Sequence[Source]) -> Iterator[ReadTask]:
    """Groups sources, in their order, so that handing over costs little beside reading."""
    for folder, group in itertools.groupby(sources, lambda s: s.file if s.position >= 0 else ""):
        if not folder:
            yield from map(ReadTask, _batches(group, _FILES_PER_TASK))
            continue
        for is_long, of_length in itertools.groupby(group, lambda s: s.windows > 1):
            if is_long:
                yield from itertools.chain.from_iterable(map(_parts, of_length))
            else:
                yield from map(ReadTask, _batches(of_length, _WINDOWS_PER_SHARD_TASK))


def _batches(sources: Iterator[Source], size: int) -> Iterator[tuple[Source, ...]]:
    while batch := tuple(itertools.islice(sources, size)):
        yield batch


def _parts(source: Source) -> Iterator[ReadTask]:
    """Yields the tasks of a recording of which shards hold several windows."""
    for first in range(0, source.windows, _WINDOWS_PER_SHARD_TASK):
        count = min(_WINDOWS_PER_SHARD_TASK, source.windows - first)
        rows = source.position + first + np.arange(count)
        yield ReadTask((source,), rows, count / source.windows)


def _read_shards(task: ReadTask, settings: WindowSettings) -> list[WindowBlock | Failure]:
    rows = np.array([s.position for s in task.sources]) if task.starts is None else task.starts
    sources = task.sources * (len(rows) // len(task.sources))
    return [
        Failure(source, str(found))
        if isinstance(found, RecordingError)
        else WindowBlock(source, found, task.share)
        for source, found in read_stored(sources, rows, settings)
    ]


def _read_file(
    source: Source, request: Request, starts: np.ndarray | None, share: float
) -> WindowBlock:
    settings = request.settings
    recording = open_hinted(source.file, request.hints)
    header = recording.header
    positions = choose_leads_of(recording, settings)
    rest: tuple[ReadTask, ...] = ()
    if starts is None:
        starts = require_windows(header.samples, header.fs, settings, source.file)
        size = max(1, _ROWS_PER_BLOCK // len(positions))
        parts = [starts[i : i + size] for i in range(0, len(starts), size)]
        share = len(parts[0]) / len(starts)
        rest = tuple(ReadTask((source,), part, len(part) / len(starts)) for part in parts[1:])
        starts = parts[0]
    return WindowBlock(source, read_windows(recording, positions, starts, settings), share, rest)


def run_task(task: ReadTask, request: Request) -> list[WindowBlock | Failure]:
    """Reads and preprocesses a task's sources; one that fails gives a `Failure`, no exception."""
    if _is_of_shards(task):
        try:
            return _read_shards(task, request.settings)
        except Exception as error:
            return [Failure(source, _explain(error)) for source in task.sources]
    results: list[WindowBlock | Failure] = []
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
) -> Generator[WindowBlock | Failure, None, None]:
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
        yield from _read_here(group_tasks(sources), read)
        return
    with Workers(workers, attempts=2) as pool:
        for in_shards, tasks in itertools.groupby(group_tasks(sources), key=_is_of_shards):
            if in_shards:  # One batched read costs less than handing its result over.
                yield from _read_here(tasks, read)
            else:
                yield from _read_in(pool, tasks, read)


def _read_here(tasks: Iterable[ReadTask], read: Callable) -> Iterator[WindowBlock | Failure]:
    for task in tasks:
        for result in read(task):
            yield result
            yield from _read_here(getattr(result, "rest", ()), read)


def _read_in(
    pool: Workers, tasks: Iterable[ReadTask], read: Callable
) -> Iterator[WindowBlock | Failure]:
    for task, results in in_order(pool, read, tasks, _split):
        if isinstance(results, WorkerDied):
            (source,) = task.sources
            results = [Failure(source, _explain_death(source, results))]
        for result in results:
            yield result
            yield from _read_in(pool, getattr(result, "rest", ()), read)


def _split(task: ReadTask) -> list[ReadTask]:
    return [dataclasses.replace(task, sources=(source,)) for source in task.sources]


def _is_of_shards(task: ReadTask) -> bool:
    return task.sources[0].position >= 0


def _explain_death(source: Source, death: WorkerDied) -> str:
    return (
        f"{source.file}: the process that read it died (exit code {death.exit_code}), and so did "
        "the next one: out of memory, or by a fault of the format's library; try the file alone"
    )
