"""The interface of an evaluator."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
from jax.sharding import Mesh

from clef_jax.data.annotations.annotations import Annotations
from clef_jax.data.shards.store import ShardSet
from clef_jax.errors import ClefError
from clef_jax.methods import Method
from clef_jax.train.state import TrainState

# Period of an evaluator that is left out, and of one that waits for the end of the run.
NEVER, AT_THE_END = -1, 0

# (state, has a signal come) -> values for the step's row; None if the signal cut it short.
Evaluate = Callable[[TrainState, Callable[[], bool]], dict[str, float] | None]


class TooFew(ClefError):
    """There are too few patients or records to ask about; the run does without the evaluator."""


class Inputs(NamedTuple):
    """What evaluators are made of.

    Attributes:
        model: The encoder.
        method: What it is taught by.
        constants: The method's, on every device.
        shards: The records.
        annotations: What is known of them.
        mesh: The run's.
        batch_size: The run's.
        seed: The run's.
        num_threads: Batches read at once.
        plots: Folder for pictures.
        rows_at_once: Rows that a device encodes at once, 0 for all.
    """

    model: nn.Module
    method: Method
    constants: Any
    shards: ShardSet
    annotations: Annotations
    mesh: Mesh
    batch_size: int
    seed: int
    num_threads: int
    plots: pathlib.Path
    rows_at_once: int = 0


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Something asked of the weights now and then.

    Attributes:
        evaluate: A function of the state and of whether a signal has come, for which it looks
            every few seconds. It returns values for the step's row of `metrics.jsonl`, none of them
            if it draws, or None if a signal cut it short: the next run then makes it up. It runs on
            every process.
        period: Steps from one evaluation to the next; 0 waits for the end of the run.
        record: Of whom it is asked, as JSON has it, if that is to be known.
    """

    evaluate: Evaluate
    period: int
    record: Mapping[str, Any] | None = None

    def is_due(self, step: int, *, at_end: bool) -> bool:
        """Returns whether it is due after a step; at the end of the run it always is."""
        return at_end or (self.period > 0 and step % self.period == 0)


class Kind(NamedTuple):
    """A kind of evaluator.

    Attributes:
        make: (inputs, period) -> evaluator. Raises TooFew where nobody can be asked.
        before: Its period where none is set: what runs did whose release did not have it yet.
    """

    make: Callable[[Inputs, int], Evaluator]
    before: Any = NEVER
