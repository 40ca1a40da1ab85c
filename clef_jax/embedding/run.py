"""From paths to a table of embeddings: what `clef-jax embed` does."""

import collections
import contextlib
import csv
import dataclasses
import os
import pathlib
import time
from collections.abc import Sequence

from tqdm import tqdm

from clef_jax.data.sources import Failure, Request, Source, find_sources, read_sources
from clef_jax.embedding.encoder import Encoder
from clef_jax.embedding.forward import default_batch_size
from clef_jax.embedding.stream import Timings, embed_blocks
from clef_jax.embedding.table import EmbeddingTable


@dataclasses.dataclass
class Summary:
    """What a run did.

    Attributes:
        found: Recordings found.
        skipped: Of these, embedded by an earlier run.
        embedded: Of these, embedded now.
        rows: Rows written now, one for each (window, lead).
        flags: Quality flag -> number of rows written now.
        failures: Recordings, or paths, that failed.
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
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    with open(temporary, "w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(("file", "record", "error"))
        rows.writerows((f.source.file, f.source.record, f.error) for f in failures)
    os.replace(temporary, path)


def table_metadata(encoder: Encoder, request: Request) -> dict:
    """Returns the record that makes a table's embeddings reproducible."""
    settings = dataclasses.asdict(request.settings)
    settings["leads"] = None if settings["leads"] is None else list(settings["leads"])
    return {
        "model": encoder.config.name,
        "fingerprint": encoder.fingerprint,
        "preprocessing": encoder.preprocessing.to_dict(),
        "settings": settings,
        "provenance": encoder.meta.get("provenance", {}),
        "versions": encoder.meta.get("versions", {}),
    }


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
) -> Summary:
    """Embeds every recording under `paths` into a Parquet table; see the README for its columns.

    Args:
        encoder: The encoder.
        paths: Files, folders, shards folders or glob patterns.
        out: The table. If it exists, its recordings are skipped and the others appended.
        request: Which windows of which leads.
        batch_size: The largest batch; what suits the backend when None.
        workers: Reading processes; 0 reads in this one.
        overwrite: Whether recordings that the table holds are embedded again.
        progress: Whether to draw a progress bar.

    Returns:
        Counts and failures; the failures are in E.errors.csv, too.

    Raises:
        TableError: The table cannot be appended to.
    """
    begin = time.perf_counter()
    summary = Summary()
    table = EmbeddingTable(out, encoder.config.embedding_dim, table_metadata(encoder, request))
    sources, summary.failures = find_sources(paths, arrays=request.fs is not None)
    summary.found = len(sources)
    if not overwrite:
        sources = [s for s in sources if (s.file, s.record) not in table.embedded]
    summary.skipped = summary.found - len(sources)
    shares: dict[Source, float] = {}
    flags: dict[Source, collections.Counter] = collections.defaultdict(collections.Counter)
    failed: set[Source] = set()
    bar = tqdm(
        total=len(sources),
        unit="rec",
        disable=not progress,
        bar_format="{l_bar}{bar}| {n:.0f}/{total} [{elapsed}<{remaining}, {rate_fmt}{postfix}]",
    )
    with bar, contextlib.closing(read_sources(sources, request, workers)) as blocks:
        for result in embed_blocks(
            encoder, blocks, batch_size=batch_size or default_batch_size(), timings=summary.timings
        ):
            source = result.source if isinstance(result, Failure) else result.block.source
            if source in failed:
                continue
            if isinstance(result, Failure):
                failed.add(source)
                summary.failures.append(result)
                bar.update(1.0 - shares.pop(source, 0.0))
                table.drop(source)
                continue
            shares[source] = shares.get(source, 0.0) + result.block.share
            flags[source].update(result.block.windows.quality)
            complete = shares[source] > 1.0 - 1e-6
            table.add(result, last=complete)
            bar.update(result.block.share)
            if complete:
                del shares[source]
                summary.embedded += 1
                summary.flags += flags.pop(source)
                summary.rows = summary.flags.total()
            bar.set_postfix_str(
                f"{summary.rows} windows, {len(summary.failures)} failed", refresh=False
            )
    summary.rows_in_table = table.close()
    _write_errors(out, summary.failures)
    summary.seconds = time.perf_counter() - begin
    return summary
