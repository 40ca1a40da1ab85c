"""The evaluators that a run asks for."""

import pathlib

from absl import logging
from jax.sharding import Mesh

from clef_jax.train.data import RunData
from clef_jax.train.evaluators.evaluator import NEVER, Evaluator, Inputs, TooFew
from clef_jax.train.evaluators.registry import EVALUATORS
from clef_jax.train.learner import Learner
from clef_jax.train.settings import ConfigError, RunSettings


def make_evaluators(
    settings: RunSettings, data: RunData, learner: Learner, mesh: Mesh, folder: pathlib.Path
) -> dict[str, Evaluator]:
    """Returns the evaluators that are asked for by name, as far as there are patients for them.

    Raises:
        ConfigError: There are too few to validate on, and the run is to end by that.
    """
    inputs = Inputs(
        learner.model,
        learner.method,
        learner.constants,
        data.shards,
        data.annotations,
        mesh,
        settings.data.batch_size,
        settings.seed,
        settings.data.num_threads,
        folder / "plots",
        settings.encoder.rows_at_once,
    )
    found = {}
    for name, period in settings.evaluators.items():
        if period == NEVER:
            continue
        try:
            found[name] = EVALUATORS[name].make(inputs, period)
        except TooFew as error:
            if name == "validation" and settings.cadence.patience:
                raise ConfigError(
                    f"config.patience is {settings.cadence.patience}, but {error}; set it to 0 or "
                    "hold out more patients by config.validation_fraction"
                ) from None
            logging.warning("%s; the run does without config.evaluators.%s", error, name)
    return found
