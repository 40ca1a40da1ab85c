"""Leaving a run in good order: signals from the cluster, and early stopping."""

import dataclasses
import math
import signal
from collections.abc import Callable

import jax


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

    def requested(self, step: int, reached_preemption: Callable[[int], bool]) -> bool:
        """Returns whether the run should save after this step and end.

        Args:
            step: Steps done.
            reached_preemption: Of several hosts, whether they agreed to stop at a step.
        """
        if jax.process_count() > 1 and reached_preemption(step):
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


@dataclasses.dataclass(frozen=True)
class Progress:
    """What a run's validation losses have come to.

    Attributes:
        best_loss: The lowest, None before the first.
        best_step: The step that had it.
        evaluations_since_best: Validations since; or since the last gain, where one counts only
            from some size on.
        last_gain: The loss of that gain, where it is not the best.
    """

    best_loss: float | None = None
    best_step: int | None = None
    evaluations_since_best: int = 0
    last_gain: float | None = None

    def after(self, step: int, loss: float, *, least_gain: float = 0.0) -> "Progress":
        """Returns the progress after one more validation; a loss that is not finite is no best.

        Args:
            step: Steps done.
            loss: The validation's, or whatever else is the better the lower it is.
            least_gain: By how much it must fall below that of the last gain to count as one.
        """
        from_loss = self.best_loss if self.last_gain is None else self.last_gain
        if math.isfinite(loss) and (from_loss is None or loss < from_loss - least_gain):
            return Progress(best_loss=loss, best_step=step)
        count = self.evaluations_since_best + 1
        if math.isfinite(loss) and self.best_loss is not None and loss < self.best_loss:
            return Progress(loss, step, count, last_gain=from_loss)
        return dataclasses.replace(self, evaluations_since_best=count)

    def is_exhausted(self, patience: int) -> bool:
        """Returns whether so many validations in a row were no better; 0 has endless patience."""
        return 0 < patience <= self.evaluations_since_best
