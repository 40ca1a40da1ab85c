"""What learns: encoder, loss, optimiser, and the step that joins them."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from clef_jax import losses, models
from clef_jax.data.signals.spec import PREPROCESSING
from clef_jax.train import optim
from clef_jax.train.data import RunData
from clef_jax.train.settings import ObjectiveSettings, OptimizerSettings, RunSettings
from clef_jax.train.state import TrainState, create_state
from clef_jax.train.step import Batch, Metrics, Objective, make_train_step


class Learner(NamedTuple):
    """What learns.

    Attributes:
        model: The encoder.
        objective: The loss.
        schedule: The learning rate by step.
        train_step: (state, batch) -> (state, metrics); it consumes the state.
        initial: Makes the state before the first step.
    """

    model: nn.Module
    objective: Objective
    schedule: optax.Schedule
    train_step: Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
    initial: Callable[[], TrainState]


def make_learner(settings: RunSettings, data: RunData, mesh: Mesh) -> Learner:
    """Returns what learns by the settings of a run from its data; nothing is computed yet."""
    encoder, optimizing = settings.encoder, settings.optimizer
    model = models.create_model(encoder.model, dtype=jnp.dtype(encoder.dtype), remat=encoder.remat)
    objective = _make_objective(settings.objective)
    schedule = _make_schedule(optimizing, data)
    optimizer = optim.make_optimizer(
        schedule, weight_decay=optimizing.weight_decay, clip_norm=optimizing.clip_norm
    )
    step = make_train_step(
        model, objective, optimizer, mesh, seed=settings.seed, ema_decay=optimizing.ema_decay
    )

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        return step(state, batch, data.noise)

    def initial() -> TrainState:
        x = jnp.zeros((1, PREPROCESSING.samples, 1))
        params = model.init(jax.random.key(settings.seed), x)["params"]
        return create_state(params, optimizer, with_ema=optimizing.ema_decay is not None)

    return Learner(model, objective, schedule, train_step, initial)


def _make_schedule(settings: OptimizerSettings, data: RunData) -> optax.Schedule:
    if settings.schedule == "warm_restarts":
        return optim.warm_restarts(settings.learning_rate, data.plans.steps_per_epoch)
    return optim.warmup_cosine(
        settings.learning_rate, data.total_steps, warmup_steps=settings.warmup_steps
    )


def _make_objective(settings: ObjectiveSettings) -> Objective:
    if settings.name == "simclr":

        def objective(z, risk, completeness, *, axis_name):
            return losses.simclr_loss(z, temperature=settings.temperature, axis_name=axis_name)

        return objective
    return functools.partial(
        losses.clef_loss,
        temperature=settings.temperature,
        floor=settings.floor,
        **losses.PRESETS[settings.preset],
    )
