"""Room on the disk, asked for before a checkpoint is begun that would not fit."""

import pathlib
import shutil
from typing import Any

import jax

from clef_jax import stores
from clef_jax.checkpoints.meta import CheckpointError

# Of Orbax's own records beside the arrays: blocks of small files, and so much for each array.
_RECORDS, _RECORD = 256 << 10, 2 << 10


class NoRoom(CheckpointError):
    """The disk has no room for a checkpoint."""


def require_room(folder: pathlib.Path, arrays: Any) -> None:
    """Checks that arrays fit on the disk as they are; compressed, they take some per cent less.

    Args:
        folder: Where they are to be written, below a folder that exists.
        arrays: Nested arrays; of those split over devices or processes, all parts count.

    Raises:
        NoRoom: They do not. Stores have room.
    """
    if stores.is_stored(folder):
        return
    leaves = jax.tree.leaves(arrays)
    needed = sum(leaf.nbytes for leaf in leaves) + _RECORD * len(leaves) + _RECORDS
    there = next(path for path in (folder, *folder.parents) if path.exists())
    total, _, free = shutil.disk_usage(there)
    if total and free < needed:  # Some file systems do not say.
        raise NoRoom(
            f"{folder}: No space left on device: a checkpoint takes {_megabytes(needed)}, "
            f"{_megabytes(free)} are free; what is there already stays as it is: make room and run "
            "the same command again"
        )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
