"""From a configuration to what a run is made of: data, model, step, validation."""

import dataclasses
import functools
import importlib.util
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from clef_jax import hosts, losses, models
from clef_jax.data.annotations.annotations import Annotations
from clef_jax.data.annotations.join import annotate, table_paths
from clef_jax.data.batches.plans import BatchPlans
from clef_jax.data.noise.bank import NoiseBank
from clef_jax.data.noise.load import load_noise_bank
from clef_jax.data.shards.store import ShardSet
from clef_jax.errors import ClefError
from clef_jax.nested import flatten
from clef_jax.train import optim
from clef_jax.train.step import make_train_step
from clef_jax.train.validation import TooFewPatients, Validation

# Annotations that the objectives need.
NEEDED = ("completeness", "risk")

# Which numbers a setting can be, besides those of counts, and how that is said.
_POSSIBLE = {
    "learning_rate": (lambda x: 0 <= x < math.inf, "0 or more"),
    "weight_decay": (lambda x: 0 <= x < math.inf, "0 or more"),
    "warmup_steps": (lambda x: x >= 0, "0 or more"),
    "clip_norm": (lambda x: x is None or x > 0, "above 0, or unset"),
    "ema_decay": (lambda x: x is None or 0 <= x < 1, "from 0 to below 1, or unset"),
    "validation_fraction": (lambda x: x is None or 0 <= x < 1, "from 0 to below 1, or unset"),
    "objective.temperature": (lambda x: 0 < x < math.inf, "above 0"),
    "objective.floor": (lambda x: 0 <= x <= 1, "from 0 to 1"),
}


class ConfigError(ClefError):
    """A configuration that cannot be run; the message names the key, its value and the choices."""


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a run is made of, all of it decided by configuration, data and devices."""

    mesh: Mesh
    shards: ShardSet
    annotations: Annotations
    plans: BatchPlans
    bank: NoiseBank
    noise: jax.Array
    model: nn.Module
    schedule: optax.Schedule
    optimizer: optax.GradientTransformation
    train_step: Callable
    validation: Validation | None
    total_steps: int


def check(config: ConfigDict) -> None:
    """Raises ConfigError for a value that no data or device could make possible."""
    for key in ("batch_size", "epochs", "log_steps", "eval_steps", "checkpoint_steps"):
        if config[key] < 1:
            raise ConfigError(f"config.{key} is {config[key]}; it must be at least 1")
    for key in ("seed", "steps", "patience", "num_workers"):
        if config[key] < 0:
            raise ConfigError(f"config.{key} is {config[key]}; it cannot be negative")
    if config.keep_checkpoints < 1:
        raise ConfigError(
            f"config.keep_checkpoints is {config.keep_checkpoints}; it must be at least 1, as "
            "without one no run can be resumed"
        )
    values = flatten(config.to_dict())
    for key, (is_possible, expected) in _POSSIBLE.items():
        if not is_possible(values[key]):
            raise ConfigError(f"config.{key} is {values[key]}; it must be {expected}")
    if config.model not in models.list_models():
        known = ", ".join(models.list_models())
        raise ConfigError(f"config.model is {config.model!r}; choose one of {known}")
    if config.tensorboard and importlib.util.find_spec("tensorboardX") is None:
        raise ConfigError("config.tensorboard needs: pip install 'clef-jax[tensorboard]'")
    if config.dtype not in ("float32", "bfloat16"):
        raise ConfigError(f"config.dtype is {config.dtype!r}; choose float32 or bfloat16")


def make_parts(config: ConfigDict, shards_folder: str) -> Parts:
    """Opens the data and builds the model and its step, on every device there is.

    Raises:
        ConfigError: A value does not fit the devices or the data, or is unknown.
        PlanError: The shards hold too few patients for a batch.
        ShardError: The shards cannot be read.
        TableError: A table of annotations cannot be read, or does not fit the shards.
        AnnotationError: A column is needed that there is not.
        NoiseBankError: The noise recordings cannot be read.
    """
    mesh = hosts.data_mesh()
    if config.batch_size % mesh.size:
        lower = max(config.batch_size // mesh.size, 1) * mesh.size
        raise ConfigError(
            f"config.batch_size {config.batch_size} does not divide by {mesh.size} devices; use "
            f"{lower} or {lower + mesh.size}"
        )
    shards = ShardSet(shards_folder)
    annotations = annotate(
        shards.annotations,
        shards.keys(),
        table_paths(config.annotations),
        needed=NEEDED,
        validation_fraction=config.validation_fraction,
    )
    plans = BatchPlans(
        shards.patient_code,
        shards.n_leads,
        annotations.is_validation,
        batch_size=config.batch_size,
        seed=config.seed,
        records_per_patient=config.records_per_patient,
    )
    total_steps = config.steps or config.epochs * plans.steps_per_epoch
    bank = load_noise_bank(config.noise or None, shards.spec)
    noise = hosts.replicate(bank.on_leads(shards.montage), mesh)
    model = models.create_model(config.model, dtype=jnp.dtype(config.dtype), remat=config.remat)
    objective = _make_objective(config.objective)
    schedule = _make_schedule(config, plans.steps_per_epoch, total_steps)
    optimizer = optim.make_optimizer(
        schedule, weight_decay=config.weight_decay, clip_norm=config.clip_norm
    )
    train_step = make_train_step(
        model, objective, optimizer, mesh, seed=config.seed, ema_decay=config.ema_decay
    )
    validation = _make_validation(config, model, objective, shards, annotations, noise, mesh)
    return Parts(
        mesh=mesh,
        shards=shards,
        annotations=annotations,
        plans=plans,
        bank=bank,
        noise=noise,
        model=model,
        schedule=schedule,
        optimizer=optimizer,
        train_step=train_step,
        validation=validation,
        total_steps=total_steps,
    )


def _make_objective(config: ConfigDict):
    if config.name == "simclr":

        def objective(z, risk, completeness, *, axis_name):
            return losses.simclr_loss(z, temperature=config.temperature, axis_name=axis_name)

        return objective
    if config.name != "clef":
        raise ConfigError(f"config.objective.name is {config.name!r}; choose clef or simclr")
    if config.preset not in losses.PRESETS:
        known = ", ".join(losses.PRESETS)
        raise ConfigError(f"config.objective.preset is {config.preset!r}; choose one of {known}")
    return functools.partial(
        losses.clef_loss,
        temperature=config.temperature,
        floor=config.floor,
        **losses.PRESETS[config.preset],
    )


def _make_schedule(config: ConfigDict, steps_per_epoch: int, total_steps: int):
    if config.schedule == "warm_restarts":
        return optim.warm_restarts(config.learning_rate, steps_per_epoch)
    if config.schedule == "warmup_cosine":
        return optim.warmup_cosine(
            config.learning_rate, total_steps, warmup_steps=config.warmup_steps
        )
    raise ConfigError(
        f"config.schedule is {config.schedule!r}; choose warm_restarts or warmup_cosine"
    )


def _make_validation(
    config: ConfigDict,
    model,
    objective,
    shards: ShardSet,
    annotations: Annotations,
    noise,
    mesh: Mesh,
) -> Validation | None:
    try:
        validation = Validation(
            model,
            objective,
            shards,
            annotations,
            noise,
            mesh,
            needed=NEEDED,
            batch_size=config.batch_size,
            seed=config.seed,
            num_threads=config.num_threads,
        )
    except TooFewPatients as error:
        if config.patience:
            raise ConfigError(
                f"config.patience is {config.patience}, but {error}; set it to 0 or hold out more "
                "patients by config.validation_fraction"
            ) from None
        logging.warning("%s; not validating", error)
        return None
    logging.info("validation: %s", validation.record)
    return validation
