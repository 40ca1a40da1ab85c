"""A trace of some of a run's steps, for TensorBoard's profiler or XProf."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator

import jax
from absl import logging

from clef_jax.errors import ClefError
from clef_jax.files import replacing_folder
from clef_jax.methods.method import Batch, Metrics
from clef_jax.train.settings import ConfigError
from clef_jax.train.state import TrainState

Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


class _EndedWithin(ClefError):
    """The run ended before the last of the steps."""


def steps_to_trace(profile: str, total_steps: int) -> range:
    """Returns the steps of `config.profile`, numbered from 1; none where it is empty.

    Raises:
        ConfigError: The run has no such steps.
    """
    if not profile:
        return range(0)
    start, stop = map(int, profile.split(":"))
    if stop > total_steps + 1:
        raise ConfigError(
            f"config.profile is {profile}, but the run has {total_steps} steps; the most that can "
            f"be traced is 2:{total_steps + 1}"
        )
    return range(start, stop)


@contextlib.contextmanager
def profiled(train_step: Step, steps: range, folder: pathlib.Path, *, done: int) -> Iterator[Step]:
    """Gives a step that also writes a trace of some of its calls, and else does what it did.

    The trace appears, as `<START>-<STOP>_process_<number>`, once it is of all of them; one that is
    there already stays.

    Args:
        train_step: (state, batch) -> (state, metrics).
        steps: Numbers of the steps to trace, if any.
        folder: Of the run's traces.
        done: Steps done before, of which the first call is the next. It compiles.
    """
    trace = folder / f"{steps.start}-{steps.stop}_process_{jax.process_index()}"
    if steps.start <= done + 1 or trace.exists():
        if steps.stop > done + 1 and not trace.exists():
            logging.warning(
                "config.profile: no trace, as the run goes on from step %d; let it begin at %d",
                done,
                done + 2,
            )
        yield train_step
        return
    number = done
    with contextlib.suppress(_EndedWithin), contextlib.ExitStack() as tracing:

        def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
            nonlocal number
            number += 1
            if number == steps.start:
                jax.block_until_ready(state)
                unfinished = tracing.enter_context(replacing_folder(trace))
                tracing.enter_context(jax.profiler.trace(unfinished))
            with jax.profiler.StepTraceAnnotation("train", step_num=number):
                result = train_step(state, batch)
            if number == steps[-1]:
                jax.block_until_ready(result)
                tracing.close()
            return result

        yield step
        if number < steps[-1]:
            logging.warning("config.profile: no trace, as the run ended after step %d", number)
            raise _EndedWithin
