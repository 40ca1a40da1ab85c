"""What lies in a checkpoint's folder besides arrays: format, checksums, small records."""

import contextlib
import json
import pathlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import jax
from absl import logging
from jax.experimental import multihost_utils

import clef_jax
from clef_jax import files, stores
from clef_jax.checkpoints.upgrades import FORMAT_VERSION, format_of, upgraded_meta
from clef_jax.errors import ClefError

# Of a run's folder, where its checkpoints are.
CHECKPOINTS = "checkpoints"
# Items that hold arrays; `params` in earlier formats.
ARRAYS = frozenset({"encoder", "params", "ema", "rest", "head"})


# What Orbax puts into a step's folder in a store, once all else is there.
_COMMITTED = "commit_success.txt"


class CheckpointError(ClefError):
    """A checkpoint that is absent, damaged or of another kind; the message says what to do."""


def steps_in(folder: pathlib.Path) -> list[int]:
    """Returns the steps of a run's checkpoints, in order, but in a store those of killed saves."""
    with stores.reaching(folder):
        steps = [path for path in folder.glob("*") if path.name.isdigit()]
        if stores.is_stored(folder):
            steps = [path for path in steps if (path / _COMMITTED).exists()]
    return sorted(int(path.name) for path in steps)


def read_meta(path: pathlib.Path) -> dict[str, Any]:
    """Returns a checkpoint's meta record, of an earlier format as today's.

    Raises:
        CheckpointError: It is damaged, or of a format of later releases.
    """
    with reading(path):
        meta = upgraded_meta(_json(path / "meta" / "metadata"))
        if format_of(meta) > FORMAT_VERSION:
            raise CheckpointError(
                f"{path}: has format {meta['format_version']}, written by clef_jax "
                f"{meta.get('versions', {}).get('clef_jax')}; this is {clef_jax.__version__}, "
                f"which reads formats up to {FORMAT_VERSION}: update clef_jax"
            )
    return meta


def best_step(meta: Mapping[str, Any]) -> int | None:
    """Returns the step of a run's best checkpoint by the meta record of its newest, if any."""
    return meta.get("progress", {}).get("best_step")


@contextlib.contextmanager
def reading(path: pathlib.Path) -> Iterator[None]:
    """Turns what damaged files make libraries raise into a `CheckpointError`."""
    try:
        yield
    except (CheckpointError, MemoryError):
        raise
    except Exception as error:  # Libraries raise whatever damage makes them run into.
        reason = str(error).split("\n")[0][:200]
        raise CheckpointError(
            f"{path}: cannot be read ({type(error).__name__}: {reason}); {remedy(path)}"
        ) from error


def require_whole(path: pathlib.Path, *, skip: Collection[str] = ()) -> None:
    """Raises CheckpointError, naming each file, where a checkpoint differs from its checksums.

    Args:
        path: A checkpoint's folder. One of format 1 has no checksums, and passes.
        skip: Items that are not about to be used.
    """
    if files.has_sums(path):
        faults = files.sum_faults(path, skip=skip)
    else:
        with reading(path):
            version = format_of(_json(path / "meta" / "metadata"))
            # A later format is refused by name, when its meta record is read.
            expected = 2 <= version <= FORMAT_VERSION
        faults = [f"{path / files.SUMS}: missing"] if expected else []
        if not expected:
            logging.info("%s has no checksums to compare, as releases to 0.1.0 kept none", path)
    if faults:
        raise CheckpointError(f"{path}: damaged; {remedy(path)}\n" + "\n".join(faults))


def set_damaged_aside(folder: pathlib.Path) -> None:
    """Renames damaged checkpoints of a run, so that it goes on from the newest whole one.

    Of those older than that only the small records are compared. To be called by every process of
    the run.

    Raises:
        CheckpointError: All are damaged; they stay as they are.
    """
    damaged, whole = {}, False
    for step in reversed(steps_in(folder)):
        path = folder / str(step)
        try:
            require_whole(path, skip=ARRAYS if whole else ())
            whole = True
        except CheckpointError as error:
            damaged[path] = error
    if damaged and not whole:
        raise CheckpointError(
            f"{folder}: every checkpoint is damaged; put one back from a copy, or choose another "
            "workdir\n" + "\n".join(map(str, damaged.values()))
        )
    # Every process comes to the same; none may still be reading when one of them renames.
    multihost_utils.sync_global_devices("checkpoints compared")
    for path, fault in damaged.items():
        if jax.process_index() == 0:
            aside = files.set_aside(path)
            logging.warning("%s\nIt is now %s, and the run goes on without it", fault, aside)
    multihost_utils.sync_global_devices("damaged checkpoints set aside")


def remedy(path: pathlib.Path) -> str:
    """Returns what to do about a damaged checkpoint."""
    if not path.name.isdigit():
        return "copy it again from its source, or convert it again"
    others = [str(step) for step in steps_in(path.parent) if str(step) != path.name]
    if not others:
        return "copy it again from its source; the run has no other checkpoint"
    return (
        "copy it again from its source, or move it away to go on from another of the run: "
        f"{', '.join(others)}"
    )


def _json(path: pathlib.Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))
