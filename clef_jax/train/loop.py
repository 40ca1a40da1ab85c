"""The loop alone: steps, evaluations, rows and checkpoints, until the end or a signal."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from clef_jax.train.clock import Clock
from clef_jax.train.evaluators.evaluator import Evaluator
from clef_jax.train.recorder import NonFiniteLoss, Recorder
from clef_jax.train.saved_states import SavedStates
from clef_jax.train.state import TrainState
from clef_jax.train.stopping import Progress, StopSignal

# What evaluators call the loss by which a pretraining ranks checkpoints and ends early.
RANKING_LOSS = "validation/loss"


class Outcome(NamedTuple):
    """How a run ended: "finished", "stopped early" or "interrupted", and in which state."""

    status: str
    state: TrainState
    progress: Progress


@dataclasses.dataclass(frozen=True)
class Loop:
    """Takes the steps that are left.

    Attributes:
        train_step: (state, batch) -> (state, metrics); it consumes the state.
        batches: From the state's step on.
        learning_rate: Its value in a step, numbered from 0.
        evaluators: In the order in which they are asked; whatever ranks comes first.
        recorder: Takes the metrics.
        clock: Measures the steps.
        saved: Takes the states.
        record: Goes with every state, besides the progress.
        stop: Ends the run before its time.
        total_steps: Steps at which the run ends.
        log_steps: Steps from one row of `metrics.jsonl` to the next.
        checkpoint_steps: Steps from one checkpoint to the next.
        patience: Evaluations without a better loss at which the run ends, 0 for never.
        ranked_by: What evaluators call the number by which checkpoints are ranked and the run ends
            early, the lower the better.
        least_gain: By how much it must fall for patience to begin anew.
    """

    train_step: Callable[[TrainState, Any], tuple[TrainState, Mapping[str, jax.Array]]]
    batches: Iterator[Any]
    learning_rate: Callable[[int], Any]
    evaluators: Sequence[Evaluator]
    recorder: Recorder
    clock: Clock
    saved: SavedStates
    record: Mapping[str, Any]
    stop: StopSignal
    total_steps: int
    log_steps: int
    checkpoint_steps: int
    patience: int
    ranked_by: str = RANKING_LOSS
    least_gain: float = 0.0

    def run(
        self, state: TrainState, progress: Progress, unvalidated: dict[str, float] | None
    ) -> Outcome:
        """Returns how the run ended.

        Args:
            state: The state to go on from.
            progress: That of the state.
            unvalidated: The row of a state that was saved before its evaluations.

        Raises:
            NonFiniteLoss: Training has diverged. Nothing diverged has been saved.
        """
        try:
            return self._run(state, progress, unvalidated)
        except NonFiniteLoss as error:
            good = self.saved.last_checkpoint() or "none was saved yet"
            raise NonFiniteLoss(f"{error}; last good checkpoint: {good}") from None

    def _run(
        self, state: TrainState, progress: Progress, unvalidated: dict[str, float] | None
    ) -> Outcome:
        step = first = int(state.step)
        status = self._ended(step, progress)
        if unvalidated is not None:
            found = self._evaluate(state, step, progress, unvalidated)
            self.recorder.write(step, unvalidated)
            if found is None:
                return Outcome("interrupted", state, progress)
            progress, status = found, self._ended(step, found)
            self.recorder.flush()
            self.saved.save(state, self._meta(progress))
        while status is None:
            state, values = self.train_step(state, self.clock.next_batch(self.batches))
            step += 1
            self.recorder.add(step, values)
            if step == first + 1:
                with self.clock.paused():
                    self.recorder.settle()  # Compilation ends here.
            progress, status = self._conclude(state, step, progress)
        return Outcome(status, state, progress)

    def _conclude(
        self, state: TrainState, step: int, progress: Progress
    ) -> tuple[Progress, str | None]:
        """Does what is due after a step; returns the progress, and the status if the run ends."""
        at_end = step == self.total_steps
        evaluates = any(e.is_due(step, at_end=at_end) for e in self.evaluators)
        row: dict[str, float] = {}
        if evaluates or at_end or step % self.log_steps == 0:
            rate = {"train/learning_rate": float(self.learning_rate(step - 1))}
            row = self.recorder.settle() | rate | self.clock.rates()
        stopped = self.stop.requested(step, self.saved.reached_preemption)
        if evaluates:
            # A signal does not wait for evaluations: the next run makes them up.
            found = None if stopped else self._evaluate(state, step, progress, row)
            if found is None:
                self.recorder.write(step, row)
                self.recorder.flush()
                self.saved.save_unvalidated(state, self._meta(progress), row)
                return progress, "interrupted"
            progress = found
        status = "interrupted" if stopped else self._ended(step, progress)
        if row:
            self.recorder.write(step, row)
        if status or step % self.checkpoint_steps == 0 or progress.best_step == step:
            with self.clock.paused():
                self.recorder.settle()  # Never save a diverged state.
                self.recorder.flush()
                self.saved.save(state, self._meta(progress))
        return progress, status

    def _evaluate(
        self, state: TrainState, step: int, progress: Progress, row: dict[str, float]
    ) -> Progress | None:
        """Adds to the row what the evaluators due find; returns None if a signal cuts it short."""
        with self.clock.paused():
            for evaluator in self.evaluators:
                at_end = self._ended(step, progress) is not None
                if not evaluator.is_due(step, at_end=at_end):
                    continue
                values = evaluator.evaluate(state, self.stop.is_set)
                if values is None:
                    return None
                row.update(values)
                if self.ranked_by in values:
                    loss = values[self.ranked_by]
                    progress = progress.after(step, loss, least_gain=self.least_gain)
        return progress

    def _meta(self, progress: Progress) -> dict[str, Any]:
        return {**self.record, "progress": dataclasses.asdict(progress)}

    def _ended(self, step: int, progress: Progress) -> str | None:
        if progress.is_exhausted(self.patience):
            return "stopped early"
        return "finished" if step >= self.total_steps else None
