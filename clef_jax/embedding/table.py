"""The Parquet table of embeddings: written in parts, merged at the end, appended to on re-runs."""

import json
import os
import pathlib
import shutil
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clef_jax.data.sources import Source
from clef_jax.embedding.fingerprint import fingerprints_agree
from clef_jax.embedding.stream import EmbeddedBlock

METADATA_KEY = b"clef_jax"
_ROWS_PER_GROUP = 4096
_ROWS_PER_PART = 65_536
_SECONDS_PER_PART = 30.0
# Beside a part: the recordings in it that failed halfway.
_DROPPED_SUFFIX = ".dropped"
_TEXT_COLUMNS = ["file", "record", "lead", "quality"]


class TableError(ValueError):
    """An existing table that cannot be appended to; the message says what to do."""


def read_metadata(path: str | os.PathLike) -> dict[str, Any]:
    """Returns what a table says about its embeddings: model, fingerprint, preprocessing, settings.

    Raises:
        TableError: The file is no such table.
    """
    try:
        metadata = pq.read_schema(path).metadata or {}
        return json.loads(metadata[METADATA_KEY])
    except (pa.ArrowInvalid, KeyError, ValueError) as error:
        raise TableError(
            f"{path}: exists, but is no table of embeddings ({type(error).__name__}: {error}); "
            "choose another --out"
        ) from error


def _rows(block: EmbeddedBlock, schema: pa.Schema) -> pa.Table:
    windows, source = block.block.windows, block.block.source
    count = len(windows.quality)
    values = pa.array(np.ascontiguousarray(block.embedding, np.float32).reshape(-1))
    columns = [
        pa.repeat(source.file, count),
        pa.repeat(source.record, count),
        pa.array(windows.lead, pa.string()),
        pa.array(windows.start_s),
        pa.repeat(float(windows.fs), count),
        pa.array(windows.quality, pa.string()),
        pa.FixedSizeListArray.from_arrays(values, block.embedding.shape[1]),
    ]
    return pa.Table.from_arrays(columns, schema=schema)


class EmbeddingTable:
    """A table that grows by whole recordings and survives interruption.

    Rows go to part files in a folder beside the table; a part appears under its name only when it
    ends with a whole recording. `close` merges the table and the parts into a new file that
    replaces the table. The number of the merge is kept in the folder's name and in the table, so
    that parts already merged are recognised.

    Attributes:
        embedded: {(file, record)} of all recordings that the table and its parts hold.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        dimension: int,
        metadata: Mapping[str, Any],
    ):
        """Opens a table, or starts one where there is none.

        Args:
            path: The Parquet file.
            dimension: Length D of the embeddings.
            metadata: JSON record with at least fingerprint, preprocessing and settings.

        Raises:
            TableError: The file holds other things, or embeddings made in another way.
        """
        self.path = pathlib.Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        generation = 1
        if self.path.exists():
            found = read_metadata(self.path)
            self._require_same(found, metadata)
            generation = found["generation"] + 1
        self._metadata = dict(metadata) | {"generation": generation}
        self._schema = pa.schema(
            [
                ("file", pa.string()),
                ("record", pa.string()),
                ("lead", pa.string()),
                ("start_s", pa.float64()),
                ("fs", pa.float64()),
                ("quality", pa.string()),
                pa.field("embedding", pa.list_(pa.field("element", pa.float32()), dimension)),
            ],
            metadata={METADATA_KEY: json.dumps(self._metadata).encode()},
        )
        self._folder = self.path.with_name(f"{self.path.name}.parts-{generation}")
        for stale in self.path.parent.glob(f"{self.path.name}.parts-*"):
            if stale != self._folder:
                shutil.rmtree(stale)
        self._folder.mkdir(exist_ok=True)
        for unfinished in self._folder.glob("*.tmp"):
            unfinished.unlink()
        for part in self._parts():
            self._require_same(read_metadata(part), metadata)
        self.embedded = {key for file in self._files() for key in self._keys(file)}
        self._writer: pq.ParquetWriter | None = None
        self._buffer: list[pa.Table] = []
        self._rows_in_part = 0
        self._part_began = 0.0
        self._dropped: list[list[str]] = []

    def add(self, block: EmbeddedBlock, *, last: bool) -> None:
        """Adds a block of a recording's windows; `last` tells that the recording is complete."""
        if self._writer is None:
            number = 1 + max((int(p.stem.split("-")[1]) for p in self._parts()), default=0)
            self._part = self._folder / f"part-{number:05d}.parquet"
            self._writer = self._open(self._part.with_suffix(".tmp"))
            self._rows_in_part, self._part_began = 0, time.monotonic()
            self._dropped = []
        rows = _rows(block, self._schema)
        self._buffer.append(rows)
        self._rows_in_part += rows.num_rows
        if sum(table.num_rows for table in self._buffer) >= _ROWS_PER_GROUP:
            self._flush()
        old = time.monotonic() - self._part_began > _SECONDS_PER_PART
        if last and (old or self._rows_in_part >= _ROWS_PER_PART):
            self._publish()

    def drop(self, source: Source) -> None:
        """Takes back the blocks added of a recording that failed halfway."""
        self._dropped.append([source.file, source.record])

    def close(self) -> int:
        """Merges the parts into the table and returns its number of rows."""
        self._publish()
        parts = self._parts()
        if parts or not self.path.exists():
            temporary = self.path.with_name(f"{self.path.name}.tmp-{os.getpid()}")
            try:
                with self._open(temporary) as writer:
                    for table in self._merged(parts):
                        writer.write_table(table)
                os.replace(temporary, self.path)
            finally:
                temporary.unlink(missing_ok=True)
        shutil.rmtree(self._folder)
        return pq.read_metadata(self.path).num_rows

    def _require_same(self, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        differing = [k for k in ("preprocessing", "settings") if found.get(k) != wanted[k]]
        if not fingerprints_agree(found.get("fingerprint", []), wanted["fingerprint"]):
            differing.append("fingerprint of the weights")
        if differing:
            details = "; ".join(
                f"{k}: {found.get(k)} there, {wanted.get(k)} now" for k in differing
            )
            raise TableError(
                f"{self.path}: its embeddings were made in another way ({details}); choose another "
                "--out, or remove it and its .parts folder"
            )

    def _open(self, path: pathlib.Path) -> pq.ParquetWriter:
        return pq.ParquetWriter(path, self._schema, use_dictionary=_TEXT_COLUMNS)

    def _parts(self) -> list[pathlib.Path]:
        return sorted(self._folder.glob("part-*.parquet"))

    def _files(self) -> list[pathlib.Path]:
        return ([self.path] if self.path.exists() else []) + self._parts()

    @staticmethod
    def _dropped_in(file: pathlib.Path) -> set[tuple[str, str]]:
        dropped = file.with_suffix(_DROPPED_SUFFIX)
        return (
            {tuple(key) for key in json.loads(dropped.read_text())} if dropped.exists() else set()
        )

    def _keys(self, file: pathlib.Path) -> set[tuple[str, str]]:
        columns = pq.read_table(file, columns=["file", "record"])
        pairs = columns.group_by(["file", "record"]).aggregate([])
        keys = zip(pairs["file"].to_pylist(), pairs["record"].to_pylist(), strict=True)
        return set(keys) - self._dropped_in(file)

    def _flush(self) -> None:
        if self._buffer:
            self._writer.write_table(pa.concat_tables(self._buffer))
            self._buffer.clear()

    def _publish(self) -> None:
        if self._writer is None:
            return
        self._flush()
        self._writer.close()
        self._writer = None
        if self._dropped:
            self._part.with_suffix(_DROPPED_SUFFIX).write_text(json.dumps(self._dropped))
        os.replace(self._part.with_suffix(".tmp"), self._part)

    def _merged(self, parts: list[pathlib.Path]) -> Iterator[pa.Table]:
        """Yields the rows of table and parts in groups; a recording's newest rows replace older."""
        newest: dict[tuple[str, str], pathlib.Path] = {}
        for file in self._files():
            newest.update((key, file) for key in self._keys(file))
        waiting: list[pa.RecordBatch] = []
        for file in self._files():
            replaced = {key for key in self._keys(file) if newest[key] != file}
            gone = [f"{name}\0{record}" for name, record in replaced | self._dropped_in(file)]
            with pq.ParquetFile(file) as stored:
                for batch in stored.iter_batches(_ROWS_PER_GROUP):
                    if gone:
                        key = pc.binary_join_element_wise(batch["file"], batch["record"], "\0")
                        keep = pc.invert(pc.is_in(key, pa.array(gone)))
                        batch = batch.filter(keep)
                    waiting.append(batch)
                    if sum(b.num_rows for b in waiting) >= _ROWS_PER_GROUP:
                        yield pa.Table.from_batches(waiting).cast(self._schema)
                        waiting = []
        if waiting:
            yield pa.Table.from_batches(waiting).cast(self._schema)
