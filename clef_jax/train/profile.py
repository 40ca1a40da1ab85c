"""A trace of some steps, for TensorBoard's profiler or XProf."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator

import jax

from clef_jax.methods.method import Batch, Metrics
from clef_jax.train.state import TrainState

# By then everything is compiled and batches are read ahead.
_STEPS_BEFORE = 10

Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


@contextlib.contextmanager
def profiled(train_step: Step, folder: pathlib.Path, steps: int) -> Iterator[Step]:
    """Gives a step that writes a trace of some of its calls, and else does what it did.

    Args:
        train_step: (state, batch) -> (state, metrics).
        folder: Where the trace goes; every host writes its own.
        steps: Calls that are traced, after the first ten; fewer if the context ends before.
    """
    calls, tracing = 0, False

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        nonlocal calls, tracing
        if calls == _STEPS_BEFORE:
            jax.block_until_ready(state)
            jax.profiler.start_trace(str(folder))
            tracing = True
        calls += 1
        with jax.profiler.StepTraceAnnotation("train", step_num=calls):
            result = train_step(state, batch)
        if calls == _STEPS_BEFORE + steps:
            jax.block_until_ready(result)
            jax.profiler.stop_trace()
            tracing = False
        return result

    try:
        yield step
    finally:
        if tracing:
            jax.profiler.stop_trace()
