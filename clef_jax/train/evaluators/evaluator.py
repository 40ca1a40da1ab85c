"""The interface of an evaluator."""

import dataclasses
from collections.abc import Callable

from clef_jax.train.state import TrainState

# (state, has a signal come) -> values for the step's row; None if the signal cut it short.
Evaluate = Callable[[TrainState, Callable[[], bool]], dict[str, float] | None]


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Something asked of the weights now and then.

    Attributes:
        evaluate: A function of the state and of whether a signal has come, for which it looks
            every few seconds. It returns values for the step's row of `metrics.jsonl`, none of them
            if it draws, or None if a signal cut it short: the next run then makes it up. It runs on
            every process.
        period: Steps from one evaluation to the next; 0 waits for the end of the run.
    """

    evaluate: Evaluate
    period: int

    def is_due(self, step: int, *, at_end: bool) -> bool:
        """Returns whether it is due after a step; at the end of the run it always is."""
        return at_end or (self.period > 0 and step % self.period == 0)
