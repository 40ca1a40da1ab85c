"""Shards of preprocessed leads on disk: their layout.

A finished folder holds

* ``leads-00000.array_record`` …: one uncompressed entry per (record, lead), little-endian
  int16, as many as the set's preprocessing makes; a record's leads follow one another in the order
  of the set's montage;
* ``index.parquet``: one row per record, or per window of one;
* ``annotations.parquet``: what tables and headers said of each record, and the split; it may be
  written anew with other tables, and is no part of what identifies the set;
* ``rejected.csv``: each recording, or window of one, left out, with the kind of fault and the
  reason;
* ``notes.csv``: what is left out of recordings that are not, such as all but the first window;
* ``plan.json``, written first: what all this is made from, so that a later run goes on with the
  same;
* ``manifest.json``, written last: format version, preprocessing, montage, counts, size and checksum
  of each file above, and its own checksum.

In format 1 the annotations were columns of the index.
"""

import hashlib
import json
import os
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from absl import logging
from array_record.python.array_record_module import ArrayRecordWriter
from tqdm import tqdm

import clef_jax
from clef_jax import stores
from clef_jax.data.signals.montage import ECG, Montage, MontageError
from clef_jax.data.signals.spec import CLEF_V2, PreprocessingSpec, SpecError
from clef_jax.errors import ClefError
from clef_jax.files import file_sha256

FORMAT_VERSION = 2
READABLE_VERSIONS = (1, 2)
MANIFEST = "manifest.json"
PLAN = "plan.json"
INDEX = "index.parquet"
ANNOTATIONS = "annotations.parquet"
REJECTED = "rejected.csv"
NOTES = "notes.csv"

ENTRY_TYPE = np.dtype("<i2")
_WRITER_OPTIONS = "group_size:1,uncompressed"


class ShardError(ClefError):
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
    return np.clip(steps, -32767, 32767).astype(ENTRY_TYPE), scale


class ShardWriter:
    """Writes the entries of one shard to a file; the caller renames it once it is complete."""

    def __init__(self, path: str):
        self._writer = ArrayRecordWriter(path, _WRITER_OPTIONS)
        self.entries = 0

    def write(self, leads: np.ndarray) -> int:
        """Appends int16 [leads, samples] and returns the entry number of the first lead."""
        first = self.entries
        for lead in leads:
            self._writer.write(lead.astype(ENTRY_TYPE, copy=False).tobytes())
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
    return content | {"sha256": manifest_sha256(content, without={"sha256"})}


def manifest_sha256(manifest: dict[str, Any], without: Collection[str]) -> str:
    """Returns the SHA-256 of a manifest's content but for some of its keys, hexadecimal."""
    content = {key: value for key, value in manifest.items() if key not in without}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_manifest(folder: str | os.PathLike) -> dict[str, Any]:
    """Reads the manifest of a finished set of shards.

    Raises:
        ShardError: There is none, it is damaged, or another version of the package wrote it.
    """
    path = os.path.join(folder, MANIFEST)
    again = (
        "copy it again from its source, or write the shards again: with the same arguments "
        f"{_tool(folder)} makes a new one of what is there"
    )
    try:
        manifest = json.loads(stores.read_bytes(path).decode())
    except (FileNotFoundError, NotADirectoryError):
        if not stores.at(folder).is_dir():
            raise ShardError(
                f"{folder}: no such folder; write shards there with tools/write_shards.py"
            ) from None
        raise ShardError(
            f"{path}: missing, so the set of shards is unfinished or not one; run {_tool(folder)} "
            "again with the same arguments, it goes on where it stopped"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ShardError(f"{path}: damaged ({error}); {again}") from None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("preprocessing", {}), dict):
        raise ShardError(f"{path}: no manifest of shards, though valid JSON; {again}")
    # Written together, so that no single flaw can pass for a manifest of release 0.1.0, without.
    has_checksum = "sha256" in manifest or "clef_jax" in manifest
    if has_checksum and manifest.get("sha256") != manifest_sha256(manifest, without={"sha256"}):
        raise ShardError(f"{path}: damaged, it differs from its own checksum; {again}")
    found = manifest.get("format_version")
    if found not in READABLE_VERSIONS:
        raise ShardError(
            f"{path}: format_version is {found}, this package reads "
            f"{' and '.join(map(str, READABLE_VERSIONS))}; write the "
            "shards again, or use the release of clef_jax that wrote them"
        )
    _read_values(manifest, path)
    if (version := manifest["preprocessing"]["version"]) != CLEF_V2.version:
        logging.log_first_n(
            logging.WARNING,
            "%s: preprocessed in version %d, this release does version %d; recordings at 500 Hz "
            "are the same in both, at other rates the ends of the ten seconds differ: write the "
            "shards again where that matters",
            1,
            path,
            version,
            CLEF_V2.version,
        )
    return manifest


def _tool(folder: str | os.PathLike) -> str:
    """Names the tool that goes on with a folder: each release does with those of its own format."""
    try:
        with open(os.path.join(folder, PLAN), encoding="utf-8") as stream:
            begun = json.load(stream)["format_version"]
    except (OSError, ValueError, LookupError, TypeError):
        begun = FORMAT_VERSION  # It has no plan to keep to.
    tool = "tools/write_shards.py"
    if begun == FORMAT_VERSION:
        return tool
    return f"{tool} of the release that began it (format {begun})"


def spec_of(manifest: Mapping[str, Any]) -> PreprocessingSpec:
    """Returns the preprocessing of a set by its manifest; version 1 is used as `CLEF_V2`."""
    return PreprocessingSpec.from_dict(manifest["preprocessing"])


def montage_of(manifest: Mapping[str, Any]) -> Montage:
    """Returns the montage of a set by its manifest; the first format knew one and named none."""
    return Montage.from_dict(manifest["montage"]) if "montage" in manifest else ECG


def _read_values(manifest: Mapping[str, Any], path: str) -> None:
    """Raises `ShardError` where spec, montage or files are not what this release knows."""
    try:
        spec_of(manifest)
        montage_of(manifest)
        wrong = [entry for entry in manifest["files"] if not _is_manifest_entry(entry)]
    except (SpecError, MontageError) as error:
        reason = str(error)
    except (LookupError, TypeError) as error:
        reason = f"no manifest of shards ({type(error).__name__}: {error})"
    else:
        if not wrong:
            return
        reason = f"files lists {wrong[0]!r}; expected file, bytes and sha256"
    raise ShardError(
        f"{path}: {reason}; write the shards again with tools/write_shards.py, or use the release "
        "of clef_jax that wrote them"
    )


def _is_manifest_entry(entry: Any) -> bool:
    types = {"file": str, "bytes": int, "sha256": str}
    return isinstance(entry, dict) and all(
        isinstance(entry.get(name), kind) for name, kind in types.items()
    )


def shard_faults(
    folder: str | os.PathLike, *, checksums: bool = False, progress: bool = False
) -> list[str]:
    """Compares the files of a finished set with its manifest.

    Args:
        folder: The set.
        checksums: Also read every shard in full and compare its SHA-256, as is always done with
            index and annotations.
        progress: Whether to show a bar.

    Returns:
        One line per bad file: what is wrong with it and what to do. Empty where all is well.
    """
    faults = []
    for entry in tqdm(read_manifest(folder)["files"], unit="file", disable=not progress):
        path = os.path.join(folder, entry["file"])
        reads = checksums or entry["file"] in (INDEX, ANNOTATIONS)
        found = stores.size(path)
        if found is None:
            fault = "missing"
        elif found != entry["bytes"]:
            fault = f"{found} bytes, expected {entry['bytes']}: truncated or changed"
        elif reads and file_sha256(path) != entry["sha256"]:
            fault = "its content differs from the manifest's checksum"
        else:
            continue
        remedy = f"run {_tool(folder)} again with the same arguments: it writes it anew"
        # Tables are written at each end, and differ where a run was killed just then.
        if entry["file"] not in (INDEX, ANNOTATIONS, REJECTED, NOTES):
            remedy = f"delete it and {remedy}"
        faults.append(f"{path}: {fault}; copy it again from its source, or {remedy}")
    return faults
