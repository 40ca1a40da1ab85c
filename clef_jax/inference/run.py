"""From paths to a table of embeddings: what `clef-jax embed` does."""

import collections
import contextlib
import csv
import dataclasses
import json
import os
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tqdm import tqdm

from clef_jax.data.recordings.formats import needs_rate
from clef_jax.data.shards.format import read_manifest
from clef_jax.data.signals.spec import SpecError, spec_differences, upgraded
from clef_jax.data.windows.pool import Request, read_sources
from clef_jax.data.windows.sources import Failure, Source, find_sources
from clef_jax.files import replacing
from clef_jax.inference.encoder import Encoder
from clef_jax.inference.forward import Forward
from clef_jax.inference.stored import EmbeddingRows, EmbeddingTableError
from clef_jax.inference.stream import EmbeddedBlock, Timings, embed_blocks
from clef_jax.inference.table import EmbeddingTable, Rows


@dataclasses.dataclass
class EmbedReport:
    """What a run did.

    Attributes:
        found: Recordings found.
        skipped: Of these, embedded by an earlier run.
        embedded: Of these, embedded now.
        rows: Rows written now, one for each (window, lead).
        flags: Quality flag -> number of rows written now.
        failures: Recordings, or paths, that failed, and files skipped as no recordings.
        rows_in_table: Rows of the finished table.
        seconds: Wall-clock time.
        timings: Where it went.
    """

    found: int = 0
    skipped: int = 0
    embedded: int = 0
    rows: int = 0
    flags: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    failures: list[Failure] = dataclasses.field(default_factory=list)
    rows_in_table: int = 0
    seconds: float = 0.0
    timings: Timings = dataclasses.field(default_factory=Timings)


def errors_path(out: str | os.PathLike) -> pathlib.Path:
    """Returns where the failures of a run are listed: beside E.parquet, E.errors.csv."""
    return pathlib.Path(out).with_suffix(".errors.csv")


def _write_errors(out: str | os.PathLike, failures: Sequence[Failure]) -> None:
    path = errors_path(out)
    if not failures:
        path.unlink(missing_ok=True)
        return
    with (
        replacing(os.fspath(path)) as temporary,
        open(temporary, "w", newline="", encoding="utf-8", errors="backslashreplace") as stream,
    ):
        rows = csv.writer(stream)
        rows.writerow(("file", "record", "error"))
        rows.writerows((f.source.file, f.source.record, f.error) for f in failures)


def table_metadata(encoder: Encoder, request: Request, sources: Sequence[Source]) -> dict:
    """Returns the record that makes a table's embeddings reproducible, as JSON gives it back."""
    needed = any(needs_rate(source.file) for source in sources)
    settings = dataclasses.asdict(request.settings)
    del settings["preprocessing"]
    record = {
        "model": encoder.config.name,
        "fingerprint": encoder.fingerprint,
        "preprocessing": _preprocessing_of(encoder, sources),
        "settings": settings,
        "reading": request.reading if needed else None,
        "provenance": encoder.meta.get("provenance", {}),
        "versions": encoder.meta.get("versions", {}),
    }
    return json.loads(json.dumps(record))


def _preprocessing_of(encoder: Encoder, sources: Sequence[Source]) -> dict[str, Any]:
    """Returns the record of what all the sources' windows have gone, or will go, through.

    Raises:
        EmbeddingTableError: Shards of version 1, which are used as if of version 2, are among
            others.
    """
    folders = sorted({source.file for source in sources if source.position >= 0})
    records = {folder: upgraded(read_manifest(folder)["preprocessing"]) for folder in folders}
    if any(source.position < 0 for source in sources):
        records["the recordings"] = encoder.preprocessing.to_dict()
    versions = {where: record["version"] for where, record in records.items()}
    if len(set(versions.values())) > 1:
        raise EmbeddingTableError(
            "preprocessed in different versions: "
            + ", ".join(f"{where} in {version}" for where, version in versions.items())
            + "; embed them into tables of their own"
        )
    return next(iter(records.values()), encoder.preprocessing.to_dict())


class _Collector:
    """Takes the results of a run as they come: rows to the table, counts to report and bar."""

    def __init__(self, report: EmbedReport, table: EmbeddingTable, bar: tqdm):
        self._report = report
        self._table = table
        self._bar = bar
        self._shares: dict[Source, float] = {}
        self._flags: dict[Source, collections.Counter] = {}
        self._failed: set[Source] = set()
        self._show_counts()

    def take(self, result: EmbeddedBlock | Failure) -> None:
        if isinstance(result, Failure):
            self._fail(result)
        elif result.block.source not in self._failed:
            self._add(result)
        self._show_counts()

    def _fail(self, failure: Failure) -> None:
        source = failure.source
        if source in self._failed:
            return
        self._failed.add(source)
        self._flags.pop(source, None)
        self._report.failures.append(failure)
        self._table.drop(source)
        self._bar.update(1.0 - self._shares.pop(source, 0.0))

    def _add(self, result: EmbeddedBlock) -> None:
        source, share = result.block.source, result.block.share
        self._shares[source] = self._shares.get(source, 0.0) + share
        flags = self._flags.setdefault(source, collections.Counter())
        flags.update(result.block.windows.quality)
        complete = self._shares[source] > 1.0 - 1e-6
        self._table.add(result, last=complete)
        self._bar.update(share)
        if complete:
            del self._shares[source]
            self._report.embedded += 1
            self._report.flags += self._flags.pop(source)
            self._report.rows = self._report.flags.total()

    def _show_counts(self) -> None:
        failed = len(self._report.failures)
        self._bar.set_postfix_str(f"{self._report.rows} windows, {failed} failed", refresh=False)


def embed_to_table(
    encoder: Encoder,
    paths: Sequence[str],
    out: str | os.PathLike,
    request: Request,
    *,
    batch_size: int | None = None,
    workers: int = 2,
    overwrite: bool = False,
    progress: bool = True,
) -> EmbedReport:
    """Embeds every recording under `paths` into a Parquet table; see the README for its columns.

    Where no recording can be embedded, no table is begun.

    Args:
        encoder: The encoder.
        paths: Files, folders, shards folders or glob patterns.
        out: The table. If it exists, its recordings are skipped and the others appended.
        request: Which windows of which leads, and how arrays are read. With arrays in the table and
            among the recordings both, it must be the same for all.
        batch_size: Windows that a device embeds at once; what suits it when None.
        workers: Reading processes; 0 reads in this one.
        overwrite: Whether recordings that the table holds are embedded again.
        progress: Whether to draw a progress bar.

    Returns:
        Counts and failures; the failures are in E.errors.csv, too.

    Raises:
        SpecError: The request's preprocessing is not the encoder's.
        EmbeddingTableError: The table cannot be appended to, another process does it now, or the
            shards are of several versions of the preprocessing.
        WorkersCannotStart: No reading process can be started.
    """
    rows = EmbeddingRows(encoder.config.embedding_dim)
    return write_table(
        encoder,
        encoder.forward,
        rows,
        paths,
        out,
        request,
        batch_size=batch_size,
        workers=workers,
        overwrite=overwrite,
        progress=progress,
    )


def write_table(
    encoder: Encoder,
    forward: Forward,
    rows: Rows,
    paths: Sequence[str],
    out: str | os.PathLike,
    request: Request,
    *,
    about: Mapping[str, Any] | None = None,
    batch_size: int | None = None,
    workers: int = 2,
    overwrite: bool = False,
    progress: bool = True,
) -> EmbedReport:
    """Writes what a network makes of every recording; other arguments are of `embed_to_table`.

    Args:
        encoder: Whose preprocessing the windows go through, and whose fingerprint the table keeps.
        forward: The network: the encoder, or the encoder with a head.
        rows: What the table holds of its outputs.
        paths: Files, folders, shards folders or glob patterns.
        out: The table.
        request: Which windows of which leads.
        about: What else the outputs depend on, for the table's record.
        batch_size: Windows that a device computes at once.
        workers: Reading processes.
        overwrite: Whether recordings that the table holds are computed again.
        progress: Whether to draw a progress bar.
    """
    begin = time.perf_counter()
    report = EmbedReport()
    if differing := spec_differences(request.settings.preprocessing, encoder.preprocessing):
        raise SpecError(f"the windows asked for are not the encoder's: {differing}")
    sources, failures = find_sources(paths, request.hints, preprocessing=encoder.preprocessing)
    # The list of an earlier run's failures is a CSV file, but no recording.
    earlier = os.path.abspath(errors_path(out))
    sources = [source for source in sources if source.file != earlier]
    report.failures = [failure for failure in failures if failure.source.file != earlier]
    report.found = len(sources)
    metadata = table_metadata(encoder, request, sources) | dict(about or {})
    with EmbeddingTable(out, rows, metadata) as table:
        if not overwrite:
            sources = [s for s in sources if (s.file, s.record) not in table.embedded]
        report.skipped = report.found - len(sources)
        bar = tqdm(
            total=len(sources),
            unit="rec",
            disable=not progress,
            bar_format="{l_bar}{bar}| {n:.0f}/{total} [{elapsed}<{remaining}, {rate_fmt}{postfix}]",
        )
        with bar, contextlib.closing(read_sources(sources, request, workers)) as blocks:
            collector = _Collector(report, table, bar)
            for result in embed_blocks(
                forward,
                blocks,
                rows_per_device=batch_size,
                after=0 if overwrite else table.windows,
                timings=report.timings,
            ):
                collector.take(result)
        report.rows_in_table = table.finish()
        _write_errors(out, report.failures)
    report.seconds = time.perf_counter() - begin
    return report
