"""Command-line paths to recordings: files, folders, shards folders and glob patterns."""

import dataclasses
import functools
import glob
import itertools
import os
from collections.abc import Iterable, Iterator

from clef_jax.data.recordings import RecordingError
from clef_jax.data.recordings.folders import is_text, search_folder
from clef_jax.data.recordings.formats import WFDB, expected_files, format_of, without_suffix
from clef_jax.data.recordings.recording import Hints
from clef_jax.data.signals.spec import CLEF_V2, PreprocessingSpec, spec_differences
from clef_jax.errors import ClefError


@dataclasses.dataclass(frozen=True)
class Source:
    """One recording to embed.

    Attributes:
        file: Absolute path of the file, or of the shards folder.
        record: Its name: the path below the folder that was searched, without suffix.
        position: Its place in the shards' index; -1 for a file.
        windows: How many rows of the index from there on are windows of it.
    """

    file: str
    record: str
    position: int = -1
    windows: int = 1


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


def _is_shards_folder(path: str) -> bool:
    return all(os.path.isfile(os.path.join(path, f)) for f in ("manifest.json", "index.parquet"))


@functools.lru_cache(maxsize=1)
def _shards_written_at(folder: str, manifest_ns: int):
    # Imported here because pandas and Arrow would double the start of a reading process.
    from clef_jax.data.shards.store import ShardSet

    return ShardSet(folder)


def open_shards(folder: str):
    """Opens a set of shards, or returns it where it was the last one opened."""
    return _shards_written_at(folder, os.stat(os.path.join(folder, "manifest.json")).st_mtime_ns)


def _file_source(path: str) -> Source:
    name = os.path.basename(without_suffix(path))
    return Source(os.path.abspath(_named_file(path)), name)


def _named_file(path: str) -> str:
    """Returns the file that a recording is called by in tables: of a WFDB record its header."""
    if format_of(path) is WFDB:
        for header in (without_suffix(path) + ".hea", path + ".hea"):
            if os.path.isfile(header):
                return header
    return path


def _sources_of_shards(folder: str, preprocessing: PreprocessingSpec) -> Iterator[Source]:
    shards = open_shards(folder)
    if differing := spec_differences(shards.spec, preprocessing):
        raise RecordingError(
            f"{folder}: the shards' preprocessing is not the encoder's: {differing}; embed the "
            "recordings themselves, or write shards for this encoder (--spec)"
        )
    position = 0
    for record, rows in itertools.groupby(shards.record):
        windows = len(list(rows))
        yield Source(folder, str(record), position, windows)
        position += windows


def _sources_below(
    path: str, hints: Hints, preprocessing: PreprocessingSpec
) -> Iterator[Source | Failure]:
    if not os.path.isdir(path):
        yield _file_source(path)
    elif _is_shards_folder(path):
        folder = os.path.abspath(path)
        yield from _sources_of_shards(folder, preprocessing)
    else:
        found, passed_over = search_folder(path, hints)
        for one in found:
            yield Source(os.path.abspath(_named_file(one.path)), one.name)
        for file in passed_over:
            source = Source(os.path.abspath(file.path), file.name)
            yield Failure(source, file.reason, file.is_table)


def find_sources(
    paths: Iterable[str],
    hints: Hints | None = None,
    *,
    preprocessing: PreprocessingSpec = CLEF_V2,
) -> tuple[list[Source], list[Failure]]:
    """Finds the recordings that files, folders, shards folders and glob patterns stand for.

    Args:
        paths: What to look at.
        hints: As of `search_folder`.
        preprocessing: The encoder's; shards of another are no sources.

    Returns:
        The sources, without repetition; and as failures the paths under which nothing was found,
        the files in folders that may hold recordings or tables but are not read, and files whose
        names are no text.
    """
    found: dict[tuple[str, str], Source] = {}
    failures: dict[str, Failure] = {}
    for path in paths:
        matches = [path] if os.path.exists(path) else sorted(glob.glob(path, recursive=True))
        error = f"{path}: holds no recording, and no shards; {expected_files()}"
        below: list[Source | Failure] = []
        for match in matches or [path]:
            try:
                below += _sources_below(match, hints or Hints(), preprocessing)
            except ClefError as fault:  # a ShardError, whose module would load pandas and Arrow
                error = str(fault)
        if not any(isinstance(one, Source) for one in below):
            failures[path] = Failure(Source(os.path.abspath(path), ""), error)
        for one in below:
            if isinstance(one, Failure):
                failures[one.source.file] = one
            elif is_text(one.file) and is_text(one.record):
                found[one.file, one.record] = one
            else:
                failures[one.file] = Failure(one, f"{one.file}: its name is no UTF-8; rename it")
    return list(found.values()), list(failures.values())
