"""What learns: encoder, method, optimiser, and the step that joins them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from clef_jax import hosts, models
from clef_jax.cluster.compiling import compiled_by_all
from clef_jax.data.noise.bank import NoiseBank
from clef_jax.data.shards.store import ShardSet
from clef_jax.methods import Method
from clef_jax.methods.method import Batch, Metrics
from clef_jax.train import optim
from clef_jax.train.data import RunData
from clef_jax.train.program import Initial, join, views_of_shards
from clef_jax.train.settings import OptimizerSettings, RunSettings
from clef_jax.train.state import TrainState


class Learner(NamedTuple):
    """What learns.

    Attributes:
        model: The encoder.
        method: What it is taught by.
        constants: The method's, on every device.
        schedule: The learning rate by step.
        train_step: (state, batch) -> (state, metrics); it consumes the state.
        initial: Makes the state before the first step, from an encoder's parameters or, of None,
            random ones.
        shardings: Where the state lies.
    """

    model: nn.Module
    method: Method
    constants: Any
    schedule: optax.Schedule
    train_step: Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
    initial: Initial
    shardings: TrainState


def make_method(
    settings: RunSettings, shards: ShardSet, bank: NoiseBank
) -> tuple[nn.Module, Method]:
    """Returns the encoder of a run, and the method that teaches it."""
    encoder = settings.encoder
    model = models.create_model(encoder.model, dtype=jnp.dtype(encoder.dtype), remat=encoder.remat)
    return model, settings.method.create(model, bank.on_leads(shards.montage))


def make_learner(
    settings: RunSettings, model: nn.Module, method: Method, data: RunData, mesh: Mesh
) -> Learner:
    """Returns what learns by the settings of a run from its data, on the devices of a mesh."""
    optimizing = settings.optimizer
    constants = hosts.replicate(method.constants, mesh)
    optimizer, schedule = make_optimizer(
        optimizing,
        steps_per_epoch=data.batch_rows.steps_per_epoch,
        total_steps=data.total_steps,
    )

    program = join(
        method,
        optimizer,
        mesh,
        samples=data.shards.spec.samples,
        batch=views_of_shards(data.shards.spec.samples, method.needs),
        seed=settings.seed,
        ema_decay=optimizing.ema_decay,
        shard_state=optimizing.shard_state,
        rows_at_once=settings.encoder.rows_at_once,
    )

    step = program.step if jax.process_count() == 1 else compiled_by_all(program.step)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        return step(state, batch, constants)

    return Learner(
        model, method, constants, schedule, train_step, program.initial, program.shardings
    )


def make_optimizer(
    settings: OptimizerSettings, *, steps_per_epoch: int, total_steps: int
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """Returns the optimiser of a run of so many steps, and its learning rate by step."""
    if settings.schedule == "warm_restarts":
        schedule = optim.warm_restarts(settings.learning_rate, steps_per_epoch)
    else:
        schedule = optim.warmup_cosine(
            settings.learning_rate, total_steps, warmup_steps=settings.warmup_steps
        )
    optimizer = optim.make_optimizer(
        schedule, weight_decay=settings.weight_decay, clip_norm=settings.clip_norm
    )
    return optimizer, schedule
