"""The evaluators that a run asks for."""

import pathlib

from absl import logging
from jax.sharding import Mesh

from clef_jax.train.data import RunData
from clef_jax.train.evaluators.embedded import make_map, make_probe
from clef_jax.train.evaluators.evaluator import Evaluator
from clef_jax.train.evaluators.validation import TooFewPatients, Validation
from clef_jax.train.learner import Learner
from clef_jax.train.settings import NEVER, ConfigError, RunSettings


def make_validation(
    settings: RunSettings, data: RunData, learner: Learner, mesh: Mesh
) -> Validation | None:
    """Returns the validation loss, or None where it is not asked for or patients are too few.

    Raises:
        ConfigError: They are too few, and the run is to end by it.
    """
    if settings.evaluators.validation == NEVER:
        return None
    try:
        validation = Validation(
            learner.method,
            data.shards,
            data.annotations,
            learner.constants,
            mesh,
            batch_size=settings.data.batch_size,
            seed=settings.seed,
            num_threads=settings.data.num_threads,
        )
    except TooFewPatients as error:
        if settings.cadence.patience:
            raise ConfigError(
                f"config.patience is {settings.cadence.patience}, but {error}; set it to 0 or hold "
                "out more patients by config.validation_fraction"
            ) from None
        logging.warning("%s; not validating", error)
        return None
    logging.info("validation: %s", validation.record)
    return validation


def make_evaluators(
    settings: RunSettings,
    data: RunData,
    learner: Learner,
    validation: Validation | None,
    folder: pathlib.Path,
) -> list[Evaluator]:
    """Returns the evaluators that are asked for, as far as there are patients enough for them.

    The validation loss comes first, as it may end the run, at which the others are due.
    """
    path = folder / "plots" / "embedding_map.png"
    wanted = {
        "validation": lambda: None if validation is None else validation.evaluate,
        "probe": lambda: make_probe(learner.model, data),
        "map": lambda: make_map(learner.model, data, path),
    }
    found = []
    for name, make in wanted.items():
        period = getattr(settings.evaluators, name)
        if period != NEVER and (evaluate := make()) is not None:
            found.append(Evaluator(evaluate, period))
    return found
