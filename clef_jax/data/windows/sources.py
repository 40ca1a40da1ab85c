"""Command-line paths to recordings, and recordings to windows in reading processes."""

import dataclasses
import functools
import glob
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from clef_jax.data.recordings import formats
from clef_jax.data.recordings.folders import search_folder
from clef_jax.data.recordings.recording import RecordingError
from clef_jax.data.signals import preprocessing, quality
from clef_jax.data.signals.leads import NOISE_LEADS
from clef_jax.data.signals.spec import PREPROCESSING
from clef_jax.data.windows.cut import (
    Windows,
    WindowSettings,
    choose_leads,
    choose_leads_of,
    read_windows,
    require_windows,
)
from clef_jax.errors import ClefError
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
    """A recording that could not be read, or a file that is none, and why.

    Attributes:
        source: The recording, or the path.
        error: Why, and what to do about it.
        skipped: Whether it is no recording by its looks: worth a line, but no failure of the run.
    """

    source: Source
    error: str
    skipped: bool = False


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
        fs: Sampling rate of CSV, TSV, NPY and headerless MATLAB files, Hz.
        lead_names: Names of the leads of files without names.
        units: Units of such files that name none.
    """

    settings: WindowSettings
    fs: float | None = None
    lead_names: tuple[str, ...] | None = None
    units: str | None = None

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
    from clef_jax.data.shards.store import ShardSet

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


def _sources_below(
    path: str, arrays: bool, lead_names: Sequence[str] | None
) -> Iterator[Source | Failure]:
    if not os.path.isdir(path):
        yield _file_source(path, None)
    elif _is_shards_folder(path):
        folder = os.path.abspath(path)
        for position, record in enumerate(_open_shards(folder).record):
            yield Source(folder, str(record), position)
    else:
        found, passed_over = search_folder(path, arrays=arrays, lead_names=lead_names)
        for file in found:
            yield _file_source(file, path)
        for file in passed_over:
            yield Failure(_file_source(file.path, path), file.reason, file.is_table)


def find_sources(
    paths: Iterable[str], *, arrays: bool, lead_names: Sequence[str] | None = None
) -> tuple[list[Source], list[Failure]]:
    """Finds the recordings that files, folders, shards folders and glob patterns stand for.

    Args:
        paths: What to look at.
        arrays: Whether CSV, TSV, NPY and headerless MATLAB files in folders are recordings.
        lead_names: Names given for the leads of such files.

    Returns:
        The sources, without repetition; and as failures the paths under which nothing was found,
        the files in folders that may hold recordings or tables but are not read, and files whose
        names are no text.
    """
    found: dict[tuple[str, str], Source] = {}
    failures: dict[str, Failure] = {}
    for path in paths:
        matches = [path] if os.path.exists(path) else sorted(glob.glob(path, recursive=True))
        error = (
            f"{path}: holds no recording; expected WFDB, EDF or DICOM files, or shards; CSV, TSV, "
            "NPY and MATLAB files count if --fs gives their rate"
        )
        below: list[Source | Failure] = []
        for match in matches or [path]:
            try:
                below += _sources_below(match, arrays, lead_names)
            except ClefError as fault:  # a ShardError, whose module would load pandas and Arrow
                error = str(fault)
        if not any(isinstance(one, Source) for one in below):
            failures[path] = Failure(Source(os.path.abspath(path), ""), error)
        for one in below:
            if isinstance(one, Failure):
                failures[one.source.file] = one
            elif _is_text(one.file) and _is_text(one.record):
                found[one.file, one.record] = one
            else:
                fault = f"{one.file}: its name is no UTF-8; rename it"
                failures[one.file] = Failure(one, fault)
    return list(found.values()), list(failures.values())


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


def _stored_flag(x: np.ndarray) -> str:
    if not x.any():
        return quality.FLAT
    return quality.NOISE if quality.is_noise(x, PREPROCESSING.fs) else quality.OK


def _read_shards(task: Task, settings: WindowSettings) -> list[Block | Failure]:
    shards = _open_shards(task.sources[0].file)
    if settings.spec != PREPROCESSING or settings.channels > 1:
        raise RecordingError(
            f"{shards.folder}: shards hold one lead each of {PREPROCESSING.seconds:g} s; for other "
            "windows, or an encoder of several leads, embed the recordings themselves"
        )
    results: list[Block | Failure] = []
    wanted: list[tuple[Source, int]] = []
    for source in task.sources:
        found = [NOISE_LEADS[i] for i in shards.lead_ids[source.position] if i >= 0]
        try:
            slots = choose_leads(found, settings, f"{source.file}: {source.record}")
            wanted += [(source, slot) for slot in slots]
        except RecordingError as error:
            results.append(Failure(source, str(error)))
    if not wanted:
        return results
    steps = shards.read([s.position for s, _ in wanted], [slot for _, slot in wanted])
    x = preprocessing.zscore(steps)
    for source, rows in itertools.groupby(range(len(wanted)), lambda row: wanted[row][0]):
        rows = list(rows)
        windows = Windows(
            x=x[rows, :, None].astype(np.float32),
            lead=[NOISE_LEADS[shards.lead_ids[source.position, wanted[row][1]]] for row in rows],
            start_s=np.zeros(len(rows)),
            quality=[_stored_flag(x[row]) for row in rows],
            fs=PREPROCESSING.fs,
        )
        results.append(Block(source, windows, 1.0))
    return results


def _read_file(source: Source, request: Request, starts: np.ndarray | None, share: float) -> Block:
    settings = request.settings
    recording = formats.open_recording(
        source.file, fs=request.fs, lead_names=request.lead_names, units=request.units
    )
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
