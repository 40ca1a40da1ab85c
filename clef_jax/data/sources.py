"""Command-line paths to recordings, and recordings to windows in reading processes."""

import dataclasses
import functools
import glob
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from clef_jax.data import formats, quality, signals
from clef_jax.data.leads import NOISE_LEADS
from clef_jax.data.readers import RecordingError
from clef_jax.data.signals import PREPROCESSING
from clef_jax.data.windows import (
    Windows,
    WindowSettings,
    choose_leads,
    read_windows,
    require_windows,
)
from clef_jax.processes import WorkerDied, Workers, in_order

# Rows of windows handed over at once: 1.3 MB of ten-second windows.
_ROWS_PER_BLOCK = 64
_FILES_PER_TASK = 16
_RECORDS_PER_SHARD_TASK = 64


@dataclasses.dataclass(frozen=True)
class Source:
    """One recording to embed.

    Attributes:
        file: Absolute path of the file, or of the shards folder.
        record: Its name: the path below the folder that was searched, without suffix.
        position: Its place in the shards' index; -1 for a file.
    """

    file: str
    record: str
    position: int = -1


@dataclasses.dataclass(frozen=True)
class Failure:
    """A recording that could not be read, and why."""

    source: Source
    error: str


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
        fs: Sampling rate of CSV, TSV and NPY files, Hz.
        lead_names: Names of the leads of files without names.
    """

    settings: WindowSettings
    fs: float | None = None
    lead_names: tuple[str, ...] | None = None

    @property
    def reading(self) -> dict[str, Any]:
        """The options that change what files are read as, all but the settings, by name."""
        names = [field.name for field in dataclasses.fields(self) if field.name != "settings"]
        return {name: getattr(self, name) for name in names}


@dataclasses.dataclass(frozen=True)
class Task:
    """Sources to read in one go; or, with `starts`, a range of windows of a single one."""

    sources: tuple[Source, ...]
    starts: np.ndarray | None = None
    share: float = 1.0


def _is_shards_folder(path: str) -> bool:
    return all(os.path.isfile(os.path.join(path, f)) for f in ("manifest.json", "index.parquet"))


@functools.lru_cache(maxsize=1)
def _shards_written_at(folder: str, manifest_ns: int):
    # Imported here because pandas and Arrow would double the start of a reading process.
    from clef_jax.data.shards import ShardSet

    return ShardSet(folder)


def _open_shards(folder: str):
    return _shards_written_at(folder, os.stat(os.path.join(folder, "manifest.json")).st_mtime_ns)


def _file_source(path: str, root: str | None) -> Source:
    stem, suffix = os.path.splitext(path)
    if suffix.lower() in (".dat", ".mat", ".hea") and os.path.isfile(stem + ".hea"):
        path = stem + ".hea"
    elif not os.path.exists(path) and os.path.isfile(path + ".hea"):
        stem, path = path, path + ".hea"
    record = os.path.relpath(stem, root) if root else os.path.basename(stem)
    return Source(os.path.abspath(path), record.replace(os.sep, "/"))


def _sources_below(path: str, arrays: bool) -> Iterator[Source]:
    if not os.path.isdir(path):
        yield _file_source(path, None)
    elif _is_shards_folder(path):
        folder = os.path.abspath(path)
        for position, record in enumerate(_open_shards(folder).record):
            yield Source(folder, str(record), position)
    else:
        for found in formats.find_files(path, arrays=arrays):
            yield _file_source(found, path)


def find_sources(paths: Iterable[str], *, arrays: bool) -> tuple[list[Source], list[Failure]]:
    """Finds the recordings that files, folders, shards folders and glob patterns stand for.

    Args:
        paths: What to look at.
        arrays: Whether CSV, TSV and NPY files in folders are recordings.

    Returns:
        The sources, without repetition; and as failures the paths under which nothing was found,
        and files whose names are no text.
    """
    found: dict[tuple[str, str], Source] = {}
    failures = []
    for path in paths:
        matches = [path] if os.path.exists(path) else sorted(glob.glob(path, recursive=True))
        error = (
            f"{path}: holds no recording; expected WFDB, EDF or DICOM files, or shards; CSV, TSV "
            "and NPY files count if --fs gives their rate"
        )
        sources = []
        for match in matches or [path]:
            try:
                sources += _sources_below(match, arrays)
            except ValueError as fault:  # a ShardError, whose module would load pandas and Arrow
                error = str(fault)
        if not sources:
            failures.append(Failure(Source(os.path.abspath(path), ""), error))
        for source in sources:
            if _is_text(source.file) and _is_text(source.record):
                found[source.file, source.record] = source
            else:
                failures.append(Failure(source, f"{source.file}: its name is no UTF-8; rename it"))
    return list(found.values()), failures


def _is_text(name: str) -> bool:
    """Tells whether a file's name can be written to a table."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def plan_tasks(sources: Sequence[Source]) -> Iterator[Task]:
    """Groups sources, in their order, so that handing over costs little beside reading."""
    for folder, group in itertools.groupby(sources, lambda s: s.file if s.position >= 0 else ""):
        size = _RECORDS_PER_SHARD_TASK if folder else _FILES_PER_TASK
        while batch := tuple(itertools.islice(group, size)):
            yield Task(batch)


def _read_shards(task: Task, settings: WindowSettings) -> list[Block | Failure]:
    shards = _open_shards(task.sources[0].file)
    if settings.spec != PREPROCESSING or settings.channels > 1:
        raise RecordingError(
            f"{shards.folder}: shards hold one lead each of {PREPROCESSING.seconds:g} s; for other "
            "windows, or an encoder of several leads, embed the recordings themselves"
        )
    results: list[Block | Failure] = []
    wanted: list[tuple[Source, str, int]] = []
    for source in task.sources:
        found = [NOISE_LEADS[i] for i in shards.lead_ids[source.position] if i >= 0]
        try:
            leads = choose_leads(found, settings, f"{source.file}: {source.record}")
            wanted += [(source, lead, found.index(lead)) for lead in leads]
        except RecordingError as error:
            results.append(Failure(source, str(error)))
    if not wanted:
        return results
    steps = shards.read([s.position for s, _, _ in wanted], [slot for _, _, slot in wanted])
    x = signals.zscore(steps)
    for source, rows in itertools.groupby(range(len(wanted)), lambda row: wanted[row][0]):
        rows = list(rows)
        noisy = [quality.is_noise(x[row], PREPROCESSING.fs) for row in rows]
        windows = Windows(
            x=x[rows, :, None].astype(np.float32),
            lead=[wanted[row][1] for row in rows],
            start_s=np.zeros(len(rows)),
            quality=[quality.NOISE if noise else quality.OK for noise in noisy],
            fs=PREPROCESSING.fs,
        )
        results.append(Block(source, windows, 1.0))
    return results


def _read_file(source: Source, request: Request, starts: np.ndarray | None, share: float) -> Block:
    settings = request.settings
    recording = formats.open_recording(source.file, fs=request.fs, lead_names=request.lead_names)
    header = recording.header
    leads = choose_leads(header.leads, settings, source.file)
    rest: tuple[Task, ...] = ()
    if starts is None:
        starts = require_windows(header.samples, header.fs, settings, source.file)
        size = max(1, _ROWS_PER_BLOCK // len(leads))
        parts = [starts[i : i + size] for i in range(0, len(starts), size)]
        share = len(parts[0]) / len(starts)
        rest = tuple(Task((source,), part, len(part) / len(starts)) for part in parts[1:])
        starts = parts[0]
    return Block(source, read_windows(recording, leads, starts, settings), share, rest)


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
