"""A finished folder of shards, opened for random reading."""

import functools
import itertools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from array_record.python.array_record_module import ArrayRecordReader
from numpy.typing import ArrayLike

from clef_jax import stores
from clef_jax.data.annotations.stored import read_annotations
from clef_jax.data.shards.format import (
    ANNOTATIONS,
    ENTRY_TYPE,
    INDEX,
    NOTES,
    REJECTED,
    ShardError,
    manifest_sha256,
    montage_of,
    read_manifest,
    shard_faults,
    shard_file,
    spec_of,
)
from clef_jax.data.shards.index import read_index
from clef_jax.reads import in_time, with_retries

_NO_PART_OF_THE_SET = (ANNOTATIONS, REJECTED, NOTES)
# More than entries of a shard are numbered by.
_ENTRY_BITS = 32
# Read by one call: many, as each call costs two changes of threads, but few enough that a store
# that takes a second for each is not taken for gone.
_RUNS_AT_ONCE = 128


class _Stalled(ShardError):
    """A read does not come back."""


class ShardSet:
    """A finished folder of shards, on a disk or in a store, opened for random reading.

    The index lives in memory, one row per record in index order; samples are read on demand.
    Reading is thread-safe. Pickling carries the folder's name only and reopens it.

    Attributes:
        folder: Where the shards are.
        manifest: The manifest's content.
        annotations: What is known of each record besides; of the tables it was written with.
        fingerprint: SHA-256 of the manifest's content but for the annotations, `rejected.csv` and
            `notes.csv`: reasons tell where the recordings lay.
        spec: The preprocessing that made it.
        montage: The leads that it may hold.
        records: Number of records, n.
        record: object [n], the records' names.
        patient: object [n], patient identifiers.
        study: object [n], study identifiers, None unknown.
        patient_code: int64 [n], patients numbered in the sorted order of their identifiers.
        n_leads: int8 [n].
        lead_ids: int8 [n, leads of the montage], ids by slot, -1 beyond the record's leads.
        scale_mv: float32 [n, leads of the montage], mV per int16 step, 0 beyond them.
        start_s: float32 [n], where in its recording an entry begins.
    """

    def __init__(self, folder: str | os.PathLike):
        """Opens a finished set.

        Raises:
            ShardError: See `read_manifest`; a file is missing, truncated or damaged; or index
                or annotations hold what cannot be: the message names records and columns.
        """
        self.folder = os.fspath(folder)
        self.manifest = read_manifest(folder)
        faults = shard_faults(folder)
        if faults:
            raise ShardError("\n".join(faults))
        self.fingerprint = _fingerprint(self.manifest)
        self.spec, self.montage = spec_of(self.manifest), montage_of(self.manifest)
        path = os.path.join(self.folder, INDEX)
        try:
            shards = sum(map(_is_shard, self.manifest["files"]))
            index = read_index(stores.for_arrow(path), shards, self.montage)
            if self.manifest["format_version"] > 1:
                path = os.path.join(self.folder, ANNOTATIONS)
            self.annotations = read_annotations(stores.for_arrow(path), index.record)
        except (ValueError, OSError, KeyError) as error:  # Arrow raises any of these.
            raise ShardError(f"{path}: {error}; mend that and write the shards again") from None
        self.records = len(index.record)
        self.record, self.patient, self.study = index.record, index.patient, index.study
        self.patient_code = pd.factorize(self.patient, sort=True)[0].astype(np.int64)
        self.n_leads, self.lead_ids, self.scale_mv = index.n_leads, index.lead_ids, index.scale_mv
        self.start_s = index.start_s
        self._shard, self._first_entry = index.shard, index.first_entry
        self._entry_bytes = self.spec.samples * ENTRY_TYPE.itemsize
        self._readers: dict[int, ArrayRecordReader] = {}
        self._stalled: str | None = None

    def __reduce__(self):
        return type(self), (self.folder,)

    def __len__(self) -> int:
        return self.records

    def keys(self) -> pd.DataFrame:
        """Returns what tables know records by: record, patient and study of each."""
        return pd.DataFrame({key: getattr(self, key) for key in ("record", "patient", "study")})

    def _reader(self, shard: int) -> ArrayRecordReader:
        reader = self._readers.get(shard)
        if reader is None:
            # Random access gains nothing from each reader's 16 MB read-ahead buffer. Two threads
            # may open one at once: a lock would be kept by one that hangs.
            reader = ArrayRecordReader(self._path(shard), "readahead_buffer_size:0")
            reader = self._readers.setdefault(shard, reader)
        return reader

    def read(self, records: ArrayLike, slots: ArrayLike) -> np.ndarray:
        """Reads one lead of each record, those side by side at once, and no entry twice.

        Args:
            records: int [m], positions in the index.
            slots: int [m], which of that record's leads, 0 ≤ slot < n_leads.

        Returns:
            int16 [m, samples]; times `scale_mv[records, slots]` they are mV.

        Raises:
            IndexError: A record or slot does not exist.
            ShardError: A shard cannot be read.
        """
        records, slots = np.asarray(records, np.int64), np.asarray(slots, np.int64)
        if records.size and (records.min() < 0 or records.max() >= self.records):
            raise IndexError(f"records must lie in 0 to {self.records - 1}")
        if np.any((slots < 0) | (slots >= self.n_leads[records])):
            raise IndexError("slots must lie in 0 to n_leads - 1 of their record")
        # One number a place, in file order within each shard, so that a cold disk is read forwards;
        # each place once: most second views of a batch show the lead of the first.
        places = (self._shard[records].astype(np.int64) << _ENTRY_BITS) + (
            self._first_entry[records] + slots
        )
        places, place_of = np.unique(places, return_inverse=True)
        starts = np.flatnonzero(np.diff(places, prepend=-2) != 1).tolist()
        runs = []
        for start, stop in itertools.pairwise([*starts, len(places)]):
            shard, entry = divmod(int(places[start]), 1 << _ENTRY_BITS)
            runs.append((shard, range(entry, entry + stop - start)))
        entries: list[bytes] = []
        for first in range(0, len(runs), _RUNS_AT_ONCE):
            entries += self._read_runs(runs[first : first + _RUNS_AT_ONCE])
        content = b"".join(entries)
        return np.frombuffer(content, ENTRY_TYPE).reshape(-1, self.spec.samples)[place_of]

    def _read_runs(self, runs: Sequence[tuple[int, range]]) -> list[bytes]:
        """Returns the entries of runs of them, each the number of a shard and those in it."""
        begun: list[int] = []

        def read() -> list[bytes]:
            entries: list[bytes] = []
            for shard, wanted in runs:
                begun.append(shard)
                one = functools.partial(self._read_entries, shard, wanted)
                entries += with_retries(one, ShardError)
            return entries

        if self._stalled:  # Batches that are read ahead need not all wait as long.
            raise ShardError(self._stalled)
        try:
            return in_time(read, _Stalled, lambda: self._path(begun[-1]))
        except _Stalled as error:
            self._stalled = str(error)
            raise

    def _path(self, shard: int) -> str:
        return os.path.join(self.folder, shard_file(shard))

    def _read_entries(self, shard: int, entries: range) -> list[bytes]:
        """Returns entries of a shard; after an error the next try opens it anew."""
        try:
            # Given a list of them, the reader goes through a table of the whole shard each time.
            found = self._reader(shard).read(entries.start, entries.stop)
            if wrong := [len(one) for one in found if len(one) != self._entry_bytes]:
                raise ValueError(f"{wrong[0]} bytes an entry, expected {self._entry_bytes}")
        except (RuntimeError, ValueError, IndexError, OSError) as error:
            self._readers.pop(shard, None)
            raise ShardError(
                f"{self._path(shard)}: cannot be read in several tries ({error}); find what is "
                "damaged with tools/write_shards.py --verify"
            ) from error
        return found


def _is_shard(entry: dict[str, Any]) -> bool:
    return entry["file"] not in (INDEX, *_NO_PART_OF_THE_SET)


def _fingerprint(manifest: dict[str, Any]) -> str:
    files = [entry for entry in manifest["files"] if entry["file"] not in _NO_PART_OF_THE_SET]
    return manifest_sha256(manifest | {"files": files}, without={"clef_jax", "sha256"})
