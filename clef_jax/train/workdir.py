"""The folder of a run: one run at a time, and the state that a signal left unvalidated."""

import contextlib
import pathlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils

from clef_jax import stores
from clef_jax.checkpoints.meta import CheckpointError
from clef_jax.checkpoints.run import Checkpoints
from clef_jax.cluster.agreement import agreement
from clef_jax.errors import ClefError
from clef_jax.files import LockedError, clear_temporaries, holder_file, locked, set_aside
from clef_jax.train.claim import Claim, WorkdirInUse
from clef_jax.train.run_state import LOCK, UNVALIDATED
from clef_jax.train.state import TrainState

# For which a network's file system may not show what another host has written.
_VISIBLE_SECONDS = 60


class WorkdirNotShared(ClefError):
    """Hosts of a run have different folders of the workdir's name."""


@contextlib.contextmanager
def only_run(workdir: pathlib.Path) -> Iterator[Claim | None]:
    """Makes the workdir and keeps every other run out of it, by a lock that process 0 holds.

    In a store it is taken over from whichever run has it; there process 0 is given the claim.

    Raises:
        WorkdirInUse: A run is there already. Raised on every process.
        WorkdirNotShared: The workdir is not the same folder for all processes.
    """
    holder = claim = None
    with contextlib.ExitStack() as held:
        if stores.is_stored(workdir):
            with agreement():
                if jax.process_index() == 0:
                    claim = Claim(holder_file(workdir / LOCK))
        elif jax.process_index() == 0:
            workdir.mkdir(parents=True, exist_ok=True)
            try:
                held.enter_context(locked(workdir / LOCK))
                for folder in (workdir, workdir / "plots"):
                    clear_temporaries(folder)
            except LockedError as error:
                holder = str(error)
        # The others must neither wait for process 0 in vain nor read what another run writes.
        if multihost_utils.broadcast_one_to_all(np.array(holder is not None)):
            raise WorkdirInUse(
                f"{workdir}: another run is there ({holder or 'process 0 says which'}); "
                "wait for its end or choose another workdir"
            )
        _require_shared(workdir)
        yield claim


def _require_shared(workdir: pathlib.Path) -> None:
    """Raises, on every process, where what process 0 wrote to the workdir is not there for all."""
    holder = holder_file(workdir / LOCK)
    with agreement() as found, stores.reaching(holder):
        deadline = time.monotonic() + _VISIBLE_SECONDS
        while not holder.exists():
            if time.monotonic() > deadline:
                raise WorkdirNotShared(
                    f"{workdir}: holds not what process 0 writes there; choose a workdir that all "
                    "hosts have mounted"
                )
            time.sleep(0.1)
        # A folder of this host alone may have one too, of a run that was killed.
        found[f"in {holder}"] = holder.read_text()


class Unvalidated:
    """A state saved by a run that had to end before it could validate it.

    It is kept apart from the checkpoints, as those are ranked by their validation loss and never
    changed: the resumed run validates it first, and then saves it among them.

    Args:
        workdir: The run's folder.
    """

    def __init__(self, workdir: pathlib.Path):
        self._folder = workdir / UNVALIDATED

    def newer_than(self, step: int | None) -> Checkpoints | None:
        """Returns where the state is, if there is one later than `step`; close it when done.

        A damaged one is set aside, as damaged checkpoints are, where there is a `step` to go on
        from. To be called by every process of the run.

        Raises:
            CheckpointError: It is damaged, and there is nothing else to go on from.
        """
        if not self._folder.exists():
            return None
        try:
            found = Checkpoints(self._folder, keep=1)
        except CheckpointError as error:
            if step is None:
                raise
            self._set_aside(error, step)
            return None
        if (found.latest_step() or 0) > (step or 0):
            return found
        found.close()
        return None

    def save(self, state: TrainState, meta: Mapping[str, Any], row: Mapping[str, float]) -> None:
        """Writes the state, with the row of `metrics.jsonl` that lacks its validation loss."""
        with contextlib.closing(Checkpoints(self._folder, keep=1)) as checkpoints:
            checkpoints.save(int(state.step), state.items(), {**meta, "row": dict(row)})

    def _set_aside(self, error: CheckpointError, step: int) -> None:
        # Every process comes to the same; none may still be reading when one of them renames.
        multihost_utils.sync_global_devices("unvalidated state compared")
        if jax.process_index() == 0:
            aside = set_aside(self._folder)
            logging.warning(
                "%s\nIt is now %s, and the run goes on from step %d", error, aside, step
            )

    def remove(self) -> None:
        """Removes the state; it must be among the checkpoints by then."""
        if jax.process_index() == 0:
            stores.remove_folder(self._folder)
