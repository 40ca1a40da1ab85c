"""Shards of preprocessed leads on disk: their layout, and reading batches from them.

A finished folder holds

* ``leads-00000.array_record`` …: one uncompressed entry per (record, lead), `PREPROCESSING.samples`
  little-endian int16; the leads of a record follow one another in the order of `NOISE_LEADS`;
* ``index.parquet``: one row per record;
* ``rejected.csv``: record, file, reason of each recording left out;
* ``manifest.json``, written last: format and preprocessing versions, counts, size and checksum of
  each file above, and its own checksum.
"""

import hashlib
import json
import os
import threading
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd
from absl import logging
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from tqdm import tqdm

import clef_jax
from clef_jax.data.index import read_index
from clef_jax.data.signals.spec import PREPROCESSING, spec_conflict
from clef_jax.files import file_sha256

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
INDEX = "index.parquet"
REJECTED = "rejected.csv"

_AGAIN = (
    "copy it again from its source, or write the shards again: with the same arguments "
    "tools/write_shards.py makes a new one of what is there"
)
_ENTRY_TYPE = np.dtype("<i2")
_WRITER_OPTIONS = "group_size:1,uncompressed"


class ShardError(ValueError):
    """A shard folder that cannot be used; the message names the file, the fault and the remedy."""


def shard_file(shard: int) -> str:
    """Returns the file name of a shard."""
    return f"leads-{shard:05d}.array_record"


def quantise(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rounds leads to int16 with a scale each, so that the largest sample uses the full range.

    Args:
        x: [leads, time], mV, finite.

    Returns:
        int16 [leads, time] and float32 [leads], mV per step (never 0): x is their product to half a
        step.
    """
    scale = (np.maximum(np.abs(x).max(axis=-1), 1e-6) / 32767).astype(np.float32)
    steps = np.rint(x / scale.astype(np.float64)[:, None])
    return np.clip(steps, -32767, 32767).astype(_ENTRY_TYPE), scale


class ShardWriter:
    """Writes the entries of one shard to a file; the caller renames it once it is complete."""

    def __init__(self, path: str):
        self._writer = ArrayRecordWriter(path, _WRITER_OPTIONS)
        self.entries = 0

    def write(self, leads: np.ndarray) -> int:
        """Appends int16 [leads, samples] and returns the entry number of the first lead."""
        first = self.entries
        for lead in leads:
            self._writer.write(lead.astype(_ENTRY_TYPE, copy=False).tobytes())
        self.entries += len(leads)
        return first

    def close(self) -> None:
        """Writes the shard's own index; without it the file is unreadable."""
        self._writer.close()


def manifest_entry(path: str | os.PathLike, name: str) -> dict[str, Any]:
    """Describes a file as the manifest does: `name` under file, its bytes and its sha256."""
    return {"file": name, "bytes": os.path.getsize(path), "sha256": file_sha256(path)}


def signed(manifest: dict[str, Any]) -> dict[str, Any]:
    """Returns a manifest with the release that writes it and with its own checksum."""
    content = manifest | {"clef_jax": clef_jax.__version__}
    return content | {"sha256": _sha256(content, without={"sha256"})}


def _sha256(manifest: dict[str, Any], without: Collection[str]) -> str:
    content = {key: value for key, value in manifest.items() if key not in without}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_manifest(folder: str | os.PathLike) -> dict[str, Any]:
    """Reads the manifest of a finished set of shards.

    Raises:
        ShardError: There is none, it is damaged, or another version of the package wrote it.
    """
    path = os.path.join(folder, MANIFEST)
    if not os.path.isdir(folder):
        raise ShardError(f"{folder}: no such folder; write shards there with tools/write_shards.py")
    try:
        with open(path, encoding="utf-8") as stream:
            manifest = json.load(stream)
    except FileNotFoundError:
        raise ShardError(
            f"{path}: missing, so the set of shards is unfinished or not one; run "
            "tools/write_shards.py again with the same arguments, it goes on where it stopped"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ShardError(f"{path}: damaged ({error}); {_AGAIN}") from None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("preprocessing", {}), dict):
        raise ShardError(f"{path}: no manifest of shards, though valid JSON; {_AGAIN}")
    # Written together, so that no single flaw can pass for a manifest of release 0.1.0, without.
    has_checksum = "sha256" in manifest or "clef_jax" in manifest
    if has_checksum and manifest.get("sha256") != _sha256(manifest, without={"sha256"}):
        raise ShardError(f"{path}: damaged, it differs from its own checksum; {_AGAIN}")
    found = manifest.get("format_version")
    if found != FORMAT_VERSION:
        raise ShardError(
            f"{path}: format_version is {found}, this package reads {FORMAT_VERSION}; write the "
            "shards again, or use the release of clef_jax that wrote them"
        )
    spec = manifest.get("preprocessing")
    if conflict := spec_conflict(spec):
        raise ShardError(
            f"{path}: the shards were preprocessed differently: {conflict}; write them again with "
            "tools/write_shards.py, or use the release of clef_jax that wrote them"
        )
    if spec["version"] != PREPROCESSING.version:
        logging.log_first_n(
            logging.WARNING,
            "%s: preprocessed in version %d, this release does version %d; recordings at 500 Hz "
            "are the same in both, at other rates the ends of the ten seconds differ: write the "
            "shards again where that matters",
            1,
            path,
            spec["version"],
            PREPROCESSING.version,
        )
    return manifest


def shard_faults(
    folder: str | os.PathLike, *, checksums: bool = False, progress: bool = False
) -> list[str]:
    """Compares the files of a finished set with its manifest.

    Args:
        folder: The set.
        checksums: Also read every file in full and compare its SHA-256, and not the index's alone.
        progress: Whether to show a bar.

    Returns:
        One line per bad file: what is wrong with it and what to do. Empty where all is well.
    """
    faults = []
    for entry in tqdm(read_manifest(folder)["files"], unit="file", disable=not progress):
        path = os.path.join(folder, entry["file"])
        if not os.path.isfile(path):
            fault = "missing"
        elif os.path.getsize(path) != entry["bytes"]:
            fault = (
                f"{os.path.getsize(path)} bytes, expected {entry['bytes']}: truncated or changed"
            )
        elif (checksums or entry["file"] == INDEX) and file_sha256(path) != entry["sha256"]:
            fault = "its content differs from the manifest's checksum"
        else:
            continue
        faults.append(
            f"{path}: {fault}; copy it again from its source, or delete it and run "
            "tools/write_shards.py again with the same arguments: it rewrites what is missing"
        )
    return faults


class ShardSet:
    """A finished folder of shards, opened for random reading.

    The index lives in memory, one row per record in index order; samples are read on demand.
    Reading is thread-safe. Pickling carries the folder's name only and reopens it.

    Attributes:
        folder: Where the shards are.
        manifest: The manifest's content.
        fingerprint: SHA-256 of the manifest's content but for `rejected.csv`, whose reasons tell
            where the recordings lay.
        records: Number of records, n.
        record: object [n], the records' names.
        patient: object [n], patient identifiers.
        patient_code: int64 [n], patients numbered in the sorted order of their identifiers.
        n_leads: int8 [n].
        lead_ids: int8 [n, 15], index into `NOISE_LEADS` by slot, -1 beyond the record's leads.
        scale_mv: float32 [n, 15], mV per int16 step, 0 beyond the record's leads.
        risk: float32 [n], percent, NaN unknown.
        completeness: float32 [n], share of the risk attributes known, NaN unknown.
        age: float32 [n], years, NaN unknown.
        male: float32 [n], 1 male, 0 female, NaN unknown.
        is_validation: bool [n].
    """

    def __init__(self, folder: str | os.PathLike):
        """Opens a finished set.

        Raises:
            ShardError: See `read_manifest`; a file is missing, truncated or damaged; or the index
                holds what cannot be: the message names records and columns.
        """
        self.folder = os.fspath(folder)
        self.manifest = read_manifest(folder)
        faults = shard_faults(folder)
        if faults:
            raise ShardError("\n".join(faults))
        self.fingerprint = _fingerprint(self.manifest)
        path = os.path.join(self.folder, INDEX)
        try:
            index = read_index(path, shards=sum(map(_is_shard, self.manifest["files"])))
        except ValueError as error:
            raise ShardError(f"{path}: {error}; mend that and write the shards again") from None
        self.records = len(index.record)
        self.record, self.patient = index.record, index.patient
        self.patient_code = pd.factorize(self.patient, sort=True)[0].astype(np.int64)
        self.n_leads, self.lead_ids, self.scale_mv = index.n_leads, index.lead_ids, index.scale_mv
        self.risk, self.completeness = index.risk, index.completeness
        self.age, self.male = index.age, index.male
        self.is_validation = index.is_validation
        self._shard, self._first_entry = index.shard, index.first_entry
        self._readers: dict[int, ArrayRecordReader] = {}
        self._opening = threading.Lock()

    def __reduce__(self):
        return type(self), (self.folder,)

    def __len__(self) -> int:
        return self.records

    def _reader(self, shard: int) -> ArrayRecordReader:
        reader = self._readers.get(shard)
        if reader is None:
            with self._opening:
                reader = self._readers.get(shard)
                if reader is None:
                    path = os.path.join(self.folder, shard_file(shard))
                    # Random access gains nothing from each reader's 16 MB read-ahead buffer.
                    reader = ArrayRecordReader(path, "readahead_buffer_size:0")
                    self._readers[shard] = reader
        return reader

    def read(self, records: Sequence[int], slots: Sequence[int]) -> np.ndarray:
        """Reads one lead of each record, one request per shard.

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
        shards = self._shard[records]
        entries = self._first_entry[records] + slots
        out = np.empty((len(records), PREPROCESSING.samples), _ENTRY_TYPE)
        # In file order within each shard, so that a cold disk is read forwards.
        order = np.lexsort((entries, shards))
        starts = np.flatnonzero(np.diff(shards[order], prepend=-1))
        for rows in np.split(order, starts[1:]) if len(order) else ():
            shard = int(shards[rows[0]])
            try:
                found = self._reader(shard).read(entries[rows].tolist())
                for row, entry in zip(rows, found, strict=True):
                    out[row] = np.frombuffer(entry, _ENTRY_TYPE)
            except (RuntimeError, ValueError, IndexError) as error:
                raise ShardError(
                    f"{os.path.join(self.folder, shard_file(shard))}: cannot be read ({error}); "
                    "find what is damaged with tools/write_shards.py --verify"
                ) from error
        return out


def _is_shard(entry: dict[str, Any]) -> bool:
    return entry["file"] not in (INDEX, REJECTED)


def _fingerprint(manifest: dict[str, Any]) -> str:
    files = [entry for entry in manifest["files"] if entry["file"] != REJECTED]
    return _sha256(manifest | {"files": files}, without={"clef_jax", "sha256"})
