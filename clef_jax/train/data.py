"""The data of a run: its shards, the plans of its batches, its noise."""

from typing import NamedTuple

from jax.sharding import Mesh

from clef_jax.data.batches.plans import BatchPlans
from clef_jax.data.noise.bank import NoiseBank
from clef_jax.data.noise.load import load_noise_bank
from clef_jax.data.shards.store import ShardSet
from clef_jax.train.settings import ConfigError, RunSettings


class RunData(NamedTuple):
    """The data of a run.

    Attributes:
        shards: The records.
        plans: The batches, by step.
        total_steps: Steps of the whole run.
        bank: The noise.
    """

    shards: ShardSet
    plans: BatchPlans
    total_steps: int
    bank: NoiseBank


def open_data(folder: str, settings: RunSettings, mesh: Mesh) -> RunData:
    """Opens the data of a run.

    Args:
        folder: A shard set of `tools/write_shards.py`.
        settings: The run's.
        mesh: The run's.

    Raises:
        ConfigError: The batch does not divide by the devices.
        PlanError: The shards hold too few patients for a batch.
        ShardError: The shards cannot be read.
        NoiseBankError: The noise recordings cannot be read.
    """
    batch_size = settings.data.batch_size
    if batch_size % mesh.size:
        lower = max(batch_size // mesh.size, 1) * mesh.size
        raise ConfigError(
            f"config.batch_size {batch_size} does not divide by {mesh.size} devices; use {lower} "
            f"or {lower + mesh.size}"
        )
    shards = ShardSet(folder)
    plans = BatchPlans(
        shards,
        batch_size=batch_size,
        seed=settings.seed,
        records_per_patient=settings.data.records_per_patient,
    )
    return RunData(
        shards=shards,
        plans=plans,
        total_steps=settings.cadence.steps or settings.cadence.epochs * plans.steps_per_epoch,
        bank=load_noise_bank(settings.data.noise or None),
    )
