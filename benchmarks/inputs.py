"""What benchmarks of reading share: rows of batches over all records, and an empty page cache."""

import os
import pathlib

import numpy as np

from clef_jax.data.batches.rows import DealtRows
from clef_jax.data.shards.store import ShardSet

BATCH = 64


def evict(folder: pathlib.Path) -> None:
    """Asks the kernel to drop a folder's files from the page cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)  # Pages not yet on the disk would stay.
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def deal(shards: ShardSet, batch_size: int) -> DealtRows:
    """Returns the rows of batches over all records."""
    return DealtRows(
        shards.patient_code,
        shards.n_leads,
        shards.annotations.is_validation,
        batch_size=batch_size,
        seed=0,
        records_per_patient="all",
    )


def columns(shards: ShardSet) -> dict[str, np.ndarray]:
    """Returns the annotations that a pretraining's batches carry."""
    return {"risk": shards.annotations.columns["risk"]}
