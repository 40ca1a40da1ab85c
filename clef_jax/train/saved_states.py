"""A run's states on disk: its checkpoints, and the one that a signal left unvalidated."""

import contextlib
import pathlib
from collections.abc import Mapping
from typing import Any

from clef_jax.checkpoints.run import Checkpoints
from clef_jax.train.state import TrainState, state_from_items
from clef_jax.train.workdir import Unvalidated


class SavedStates:
    """The states of one run, of which the newest may wait for its evaluations.

    A context manager, which finishes the saves under way when it is left.

    Args:
        workdir: The run's folder.
        keep: How many of the latest checkpoints to keep, besides the best.

    Raises:
        CheckpointError: There are checkpoints, and all of them are damaged.
    """

    def __init__(self, workdir: pathlib.Path, *, keep: int):
        with contextlib.ExitStack() as opened:
            self._checkpoints = opened.enter_context(
                contextlib.closing(Checkpoints(workdir, keep=keep))
            )
            self._unvalidated = Unvalidated(workdir)
            self._newer = self._unvalidated.newer_than(self._checkpoints.latest_step())
            self._opened = opened.pop_all()
        # Once its state is among the checkpoints, nothing else refers to it.
        if not (waits := self._newer is not None):
            self._unvalidated.remove()
        self._newest_waits = waits

    def __enter__(self) -> "SavedStates":
        return self

    def __exit__(self, *exception) -> None:
        self._close_newer()
        self._opened.close()

    def meta(self) -> dict[str, Any] | None:
        """Returns the newest state's meta record, with its `row` if it waits; None without any."""
        newest = self._newer or self._checkpoints
        return None if newest.latest_step() is None else newest.meta()

    def restore(self, like: TrainState) -> TrainState:
        """Returns the newest state, as `like` is; see `Checkpoints.restore`."""
        items = (self._newer or self._checkpoints).restore(like.items())
        self._close_newer()
        return state_from_items(items)

    def restore_best(self, like: TrainState, step: int) -> TrainState:
        """Returns the state of the best checkpoint, which a run's progress names, as `like` is."""
        self._checkpoints.wait()
        return state_from_items(self._checkpoints.restore(like.items(), step))

    def save(self, state: TrainState, meta: Mapping[str, Any]) -> None:
        """Writes a checkpoint in the background; see `Checkpoints.save`."""
        self._checkpoints.save(int(state.step), state.items(), meta)
        if self._newest_waits:
            self._checkpoints.wait()
            self._unvalidated.remove()
            self._newest_waits = False

    def save_unvalidated(
        self, state: TrainState, meta: Mapping[str, Any], row: Mapping[str, float]
    ) -> None:
        """Writes a state apart, with the row of `metrics.jsonl` that its evaluations complete."""
        self._unvalidated.save(state, meta, row)

    def last_checkpoint(self) -> pathlib.Path | None:
        """Returns the newest checkpoint's folder, once it is written."""
        self._checkpoints.wait()
        step = self._checkpoints.latest_step()
        return None if step is None else self._checkpoints.folder / str(step)

    def reached_preemption(self, step: int) -> bool:
        """Returns whether the cluster is about to stop the hosts; all hosts agree on the step."""
        return self._checkpoints.reached_preemption(step)

    def _close_newer(self) -> None:
        if self._newer is not None:
            self._newer.close()
            self._newer = None
