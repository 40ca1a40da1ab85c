"""Parquet files of embeddings on disk: a table, or a part of one that is being written."""

import contextlib
import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clef_jax.data.recordings.formats import needs_rate
from clef_jax.data.windows.pool import WindowBlock
from clef_jax.errors import ClefError
from clef_jax.inference.stream import EmbeddedBlock

METADATA_KEY = b"clef_jax"
# Beside a part: the recordings in it that failed halfway.
PARTS_SUFFIX = ".parts"
DROPPED_SUFFIX = ".dropped"
ROWS_PER_GROUP = 4096

# A recording by its file and its name.
Key = tuple[str, str]


class EmbeddingTableError(ClefError):
    """An existing file that cannot be read or appended to; the message says what to do."""


def windows_schema(fields: Sequence[pa.Field], metadata: Mapping[str, Any]) -> pa.Schema:
    """Returns the schema of windows and of `fields` about them, with a JSON record."""
    windows = [
        ("file", pa.string()),
        ("record", pa.string()),
        ("lead", pa.string()),
        ("start_s", pa.float64()),
        ("fs", pa.float64()),
        ("quality", pa.string()),
    ]
    return pa.schema(
        [*(pa.field(*column) for column in windows), *fields],
        metadata={METADATA_KEY: json.dumps(metadata).encode()},
    )


def windows_columns(block: WindowBlock, times: int = 1) -> list[pa.Array]:
    """Returns the columns of `windows_schema` for a block, each window `times` times in a row."""
    windows, source = block.windows, block.source
    count = len(windows.quality) * times
    return [
        pa.repeat(source.file, count),
        pa.repeat(source.record, count),
        pa.array(np.repeat(windows.lead, times), pa.string()),
        pa.array(np.repeat(windows.start_s, times)),
        pa.repeat(float(windows.fs), count),
        pa.array([flag for flag in windows.quality for _ in range(times)], pa.string()),
    ]


@dataclasses.dataclass(frozen=True)
class EmbeddingRows:
    """A row for each (window, lead), with its embedding of length `dimension`."""

    dimension: int
    per_window: ClassVar[int] = 1

    def schema(self, metadata: Mapping[str, Any]) -> pa.Schema:
        """Returns the schema of the table."""
        numbers = pa.list_(pa.field("element", pa.float32()), self.dimension)
        return windows_schema([pa.field("embedding", numbers)], metadata)

    def of_block(self, block: EmbeddedBlock, schema: pa.Schema) -> pa.Table:
        """Returns the rows of a block."""
        values = pa.array(np.ascontiguousarray(block.embedding, np.float32).reshape(-1))
        embedding = pa.FixedSizeListArray.from_arrays(values, self.dimension)
        return pa.Table.from_arrays([*windows_columns(block.block), embedding], schema=schema)


def read_metadata(path: str | os.PathLike) -> dict[str, Any]:
    """Returns what a table says of its embeddings: model, fingerprint, preprocessing, settings, ….

    Raises:
        EmbeddingTableError: The file is no such table.
    """
    try:
        metadata = pq.read_schema(path).metadata or {}
        return json.loads(metadata[METADATA_KEY])
    except (pa.ArrowException, KeyError, ValueError, OSError) as error:
        raise EmbeddingTableError(
            f"{path}: exists, but is no table of embeddings ({type(error).__name__}: {error})"
        ) from error


@dataclasses.dataclass(frozen=True)
class StoredEmbeddings:
    """A table, or a part, as it is on disk.

    Attributes:
        path: The file.
        remedy: What to do if it is damaged, for the error's message.
    """

    path: pathlib.Path
    remedy: str

    @functools.cached_property
    def metadata(self) -> dict[str, Any]:
        """What it says of its embeddings."""
        try:
            return read_metadata(self.path)
        except EmbeddingTableError as error:
            raise EmbeddingTableError(f"{error}; {self.remedy}") from error

    @functools.cached_property
    def dropped(self) -> frozenset[Key]:
        """The recordings in it that failed halfway: their rows do not count."""
        file = self.path.with_suffix(DROPPED_SUFFIX)
        # Only parts have such a file; one beside the table is somebody else's.
        if self.path.parent.suffix != PARTS_SUFFIX or not file.exists():
            return frozenset()
        return frozenset(map(tuple, json.loads(file.read_text())))

    @functools.cached_property
    def keys(self) -> frozenset[Key]:
        """Its recordings."""
        with self._explaining():
            columns = pq.read_table(self.path, columns=["file", "record"])
        pairs = columns.group_by(["file", "record"]).aggregate([])
        found = zip(pairs["file"].to_pylist(), pairs["record"].to_pylist(), strict=True)
        return frozenset(found) - self.dropped

    @property
    def holds_arrays(self) -> bool:
        """Whether some of its recordings needed to be told how to read them, such as their rate."""
        return any(needs_rate(file) for file, _ in self.keys)

    def batches(self, without: frozenset[Key]) -> Iterator[pa.RecordBatch]:
        """Yields its rows but for those of some recordings and of those dropped."""
        gone = pa.array([f"{file}\0{record}" for file, record in without | self.dropped])
        with self._explaining(), pq.ParquetFile(self.path) as stored:
            for batch in stored.iter_batches(ROWS_PER_GROUP):
                if len(gone):
                    key = pc.binary_join_element_wise(batch["file"], batch["record"], "\0")
                    batch = batch.filter(pc.invert(pc.is_in(key, gone)))
                yield batch

    @contextlib.contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError) as error:
            raise EmbeddingTableError(
                f"{self.path}: cannot be read ({type(error).__name__}: {error}); {self.remedy}"
            ) from error
