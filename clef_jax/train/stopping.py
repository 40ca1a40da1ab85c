"""Leaving a run in good order: signals from the cluster, and early stopping."""

import math
import signal

import jax

from clef_jax.checkpoints.run import Checkpoints


class StopSignal:
    """Turns SIGTERM and SIGINT into a request to save and leave; a second one acts at once.

    A context manager, after which signals act as they did before.
    """

    def __init__(self):
        self._requested = False
        self._previous = {}

    def __enter__(self) -> "StopSignal":
        # Several hosts must stop after the same step, on which the coordination service agrees.
        if jax.process_count() == 1:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception) -> None:
        self._restore()

    def requested(self, checkpoints: Checkpoints, step: int) -> bool:
        """Returns whether the run should save after this step and end."""
        if jax.process_count() > 1 and checkpoints.reached_preemption(step):
            self._requested = True
        return self._requested

    def is_set(self) -> bool:
        """Returns whether a request is known already, without asking other hosts."""
        return self._requested

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame) -> None:
        self._requested = True
        self._restore()


def note_validation(progress: dict, step: int, loss: float) -> dict:
    """Returns `progress` (best_loss, best_step, evaluations_since_best) after one evaluation.

    A loss that is not finite is never the best.
    """
    if math.isfinite(loss) and (progress["best_loss"] is None or loss < progress["best_loss"]):
        return {"best_loss": loss, "best_step": step, "evaluations_since_best": 0}
    return progress | {"evaluations_since_best": progress["evaluations_since_best"] + 1}
