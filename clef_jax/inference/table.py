"""The Parquet table of embeddings: written in parts, merged at the end, appended to on re-runs."""

import contextlib
import json
import os
import pathlib
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from clef_jax.data.signals.spec import upgraded
from clef_jax.data.windows.sources import Source
from clef_jax.files import locked, move_into_place, write_json
from clef_jax.inference.fingerprint import fingerprints_agree
from clef_jax.inference.stored import (
    DROPPED_SUFFIX,
    PARTS_SUFFIX,
    ROWS_PER_GROUP,
    EmbeddingTableError,
    Key,
    StoredEmbeddings,
)
from clef_jax.inference.stream import EmbeddedBlock
from clef_jax.stores import require_local

_ROWS_PER_PART = 65_536
_SECONDS_PER_PART = 30.0
_PART = re.compile(r"part-(\d{5,})\.parquet")
# Left by a killed run: what was not yet a part, a part's companion without it, a merge.
_UNFINISHED = re.compile(r"(part-\d{5,}|merged)\.tmp|part-\d{5,}\.dropped\.\d+\.tmp")


class Rows(Protocol):
    """What a table holds of a block of windows and of what was computed of them."""

    @property
    def per_window(self) -> int:
        """Rows for each window of one lead."""

    def schema(self, metadata: Mapping[str, Any]) -> pa.Schema:
        """Returns the schema: columns `file` and `record` first, then any, and a JSON record."""

    def of_block(self, block: EmbeddedBlock, schema: pa.Schema) -> pa.Table:
        """Returns the rows of a block."""


class EmbeddingTable:
    """A table that grows by whole recordings and survives interruption. A context manager.

    Rows go to part files in a folder beside the table; a part appears under its name only when it
    ends with a whole recording. `finish` merges the table and the parts into a new file that
    replaces the table. The number of the merge is kept in the parts and in the table, so that
    parts already merged are recognised. Nothing else in the folder is touched.

    A lock file, `.<name>.lock`, keeps other processes out as long as the table is open.

    Attributes:
        embedded: {(file, record)} of all recordings that the table and its parts hold.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        rows: Rows,
        metadata: Mapping[str, Any],
    ):
        """Opens a table, or starts one where there is none.

        Args:
            path: The Parquet file.
            rows: What it holds of a block.
            metadata: JSON record with at least fingerprint, preprocessing, settings, and reading:
                how arrays are to be read, or None where there are none among the recordings.

        Raises:
            EmbeddingTableError: Another process has the table open; the file, or a part, holds
                other things, or embeddings made in another way.
            StoreError: It is in a store.
            OSError: Nothing can be written there.
        """
        require_local(path)
        self.path = pathlib.Path(path)
        self._folder = self.path.with_name(self.path.name + PARTS_SUFFIX)
        self._writer: pq.ParquetWriter | None = None
        self._buffer: list[pa.Table] = []
        if self.path.is_dir():
            raise EmbeddingTableError(
                f"{self.path}: is a folder; expected the name of a file for --out"
            )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            lock = self.path.with_name(f".{self.path.name}.lock")
            stack.enter_context(locked(lock, self._taken))
            self._table = self._open_table(metadata)
            self._parts = self._open_parts(metadata)
            self.embedded = {key for stored in self._stored() for key in stored.keys}
            self._metadata = self._about_all(metadata)
            self._rows = rows
            self._schema = rows.schema(self._metadata)
            self._text = [field.name for field in self._schema if field.type == pa.string()]
            self._lock = stack.pop_all()

    def __enter__(self) -> "EmbeddingTable":
        return self

    def __exit__(self, *exception) -> None:
        with self._lock:
            if self._writer is not None:
                self._writer.close()
                self._unfinished.unlink()
            self._remove_folder()

    def add(self, block: EmbeddedBlock, *, last: bool) -> None:
        """Adds a block of a recording's windows; `last` tells that the recording is complete."""
        if self._writer is None:
            self._start_part()
        rows = self._rows.of_block(block, self._schema)
        self._buffer.append(rows)
        self._rows_in_part += rows.num_rows
        if sum(table.num_rows for table in self._buffer) >= ROWS_PER_GROUP:
            self._flush()
        old = time.monotonic() - self._part_began > _SECONDS_PER_PART
        if last and (old or self._rows_in_part >= _ROWS_PER_PART):
            self._publish()

    @property
    def windows(self) -> int:
        """How many windows, each of one lead, were computed of what table and parts hold."""
        rows = sum(pq.read_metadata(stored.path).num_rows for stored in self._stored())
        return rows // self._rows.per_window

    def drop(self, source: Source) -> None:
        """Takes back the blocks added of a recording that failed halfway."""
        if self._writer is not None:
            self._dropped.append([source.file, source.record])

    def finish(self) -> int:
        """Merges the parts into the table, unless no row is new; returns its number of rows."""
        self._publish()
        if any(part.keys for part in self._parts):
            merged = self._folder / "merged.tmp"
            with self._open(merged) as writer:
                for table in self._merged():
                    writer.write_table(table)
            move_into_place(merged, self.path)
        for part in self._parts:
            _remove_part(part.path)
        self._parts = []
        return pq.read_metadata(self.path).num_rows if self.path.exists() else 0

    def _taken(self, holder: str) -> EmbeddingTableError:
        return EmbeddingTableError(
            f"{self.path}: another process is embedding into it ({holder}); wait for it or choose "
            "another --out"
        )

    def _open_table(self, metadata: Mapping[str, Any]) -> StoredEmbeddings | None:
        if not self.path.exists():
            return None
        table = StoredEmbeddings(self.path, "choose another --out, or remove it")
        self._require_same(table, metadata)
        return table

    def _open_parts(self, metadata: Mapping[str, Any]) -> list[StoredEmbeddings]:
        """Returns the parts that wait to be merged, and removes what killed runs left besides."""
        self._folder.mkdir(exist_ok=True)
        merged = self._table.metadata["generation"] if self._table else 0
        parts = []
        for path in sorted(self._folder.iterdir(), key=lambda path: (len(path.name), path.name)):
            whole = path.with_suffix(".parquet")
            orphaned = path.suffix == DROPPED_SUFFIX and _PART.fullmatch(whole.name)
            if _UNFINISHED.fullmatch(path.name) or (orphaned and not whole.exists()):
                path.unlink()
            elif _PART.fullmatch(path.name):
                remedy = "remove it, and what it held is embedded again"
                part = StoredEmbeddings(path, remedy)
                if part.metadata.get("generation", 0) <= merged or not part.keys:
                    _remove_part(path)
                    continue
                self._require_same(part, metadata)
                parts.append(part)
        return parts

    def _require_same(self, stored: StoredEmbeddings, wanted: Mapping[str, Any]) -> None:
        """Raises `EmbeddingTableError` if it has embeddings that were made in another way."""
        found = stored.metadata
        if not stored.keys:
            return
        found = found | {"preprocessing": upgraded(found.get("preprocessing", {}))}
        names = ["preprocessing", "settings", "head"]
        if stored.holds_arrays and wanted["reading"] is not None:
            names.append("reading")
        differing = _differences(*({name: d.get(name) for name in names} for d in (found, wanted)))
        if not fingerprints_agree(found.get("fingerprint", []), wanted["fingerprint"]):
            differing.append(
                f"fingerprint of the weights: {found.get('fingerprint')} there, "
                f"{wanted['fingerprint']} now"
            )
        if differing:
            raise EmbeddingTableError(
                f"{stored.path}: its embeddings were made in another way ({'; '.join(differing)}); "
                f"choose another --out, or remove {self.path} and {self._folder}"
            )

    def _about_all(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the record for parts and table: its merge, and how all its arrays were read."""
        reading = [s.metadata.get("reading") for s in self._stored() if s.holds_arrays]
        merges = [self._table.metadata["generation"] + 1] if self._table else [1]
        merges += [part.metadata["generation"] for part in self._parts]
        return dict(metadata) | {
            "generation": max(merges),
            "reading": reading[0] if reading else metadata["reading"],
        }

    def _stored(self) -> list[StoredEmbeddings]:
        return ([self._table] if self._table else []) + self._parts

    def _open(self, path: pathlib.Path) -> pq.ParquetWriter:
        return pq.ParquetWriter(path, self._schema, use_dictionary=self._text)

    def _start_part(self) -> None:
        last = _number(self._parts[-1].path) if self._parts else 0
        self._unfinished = self._folder / f"part-{last + 1:05d}.tmp"
        self._writer = self._open(self._unfinished)
        self._rows_in_part, self._part_began = 0, time.monotonic()
        self._dropped: list[list[str]] = []

    def _flush(self) -> None:
        if self._writer is not None and self._buffer:
            self._writer.write_table(pa.concat_tables(self._buffer))
            self._buffer.clear()

    def _publish(self) -> None:
        if self._writer is None:
            return
        self._flush()
        self._writer.close()
        self._writer = None
        part = self._unfinished.with_suffix(".parquet")
        if self._dropped:
            write_json(part.with_suffix(DROPPED_SUFFIX), self._dropped)
        move_into_place(self._unfinished, part)
        self._parts.append(StoredEmbeddings(part, "remove it, and run the same command again"))

    def _merged(self) -> Iterator[pa.Table]:
        """Yields the rows of table and parts in groups; a recording's newest rows replace older."""
        newest: dict[Key, StoredEmbeddings] = {}
        for stored in self._stored():
            newest.update(dict.fromkeys(stored.keys, stored))
        waiting: list[pa.RecordBatch] = []
        for stored in self._stored():
            replaced = frozenset(key for key in stored.keys if newest[key] is not stored)
            for batch in stored.batches(without=replaced):
                waiting.append(batch)
                if sum(b.num_rows for b in waiting) >= ROWS_PER_GROUP:
                    yield pa.Table.from_batches(waiting).cast(self._schema)
                    waiting = []
        if waiting:
            yield pa.Table.from_batches(waiting).cast(self._schema)

    def _remove_folder(self) -> None:
        with contextlib.suppress(OSError):  # It holds parts still, or files of somebody else.
            self._folder.rmdir()


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Returns what two JSON records differ in, entry by entry."""
    lines = []
    for key in sorted(found.keys() | wanted.keys()):
        there, now = found.get(key), wanted.get(key)
        if isinstance(there, Mapping) and isinstance(now, Mapping):
            lines += _differences(there, now)
        elif there != now:
            lines.append(f"{key}: {json.dumps(there)} there, {json.dumps(now)} now")
    return lines


def _number(part: pathlib.Path) -> int:
    match = _PART.fullmatch(part.name)
    assert match is not None, part
    return int(match[1])


def _remove_part(path: pathlib.Path) -> None:
    path.unlink()
    path.with_suffix(DROPPED_SUFFIX).unlink(missing_ok=True)
