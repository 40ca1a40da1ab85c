"""The data of a run: its shards, what is known of their records, the rows of its batches."""

import math
from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np
from absl import logging
from jax.sharding import Mesh

from clef_jax.data.annotations.annotations import Annotations
from clef_jax.data.annotations.join import annotate, table_paths
from clef_jax.data.batches.rows import DealtRows
from clef_jax.data.noise.bank import NoiseBank
from clef_jax.data.shards.store import ShardSet
from clef_jax.train.settings import ConfigError, RunSettings

# Views that a TPU computes side by side, one to a lane, and the records that these make up.
_LANES = 128
FULL_LANES_RECORDS = _LANES // 2


class RunData(NamedTuple):
    """The data of a run.

    Attributes:
        shards: The records.
        bank: The noise that is added to them.
        annotations: What is known of them.
        columns: Those of it that batches carry.
        batch_rows: The rows of its batches, by step.
        total_steps: Steps of the whole run.
    """

    shards: ShardSet
    bank: NoiseBank
    annotations: Annotations
    columns: Mapping[str, np.ndarray]
    batch_rows: DealtRows
    total_steps: int


def choose_data(
    settings: RunSettings,
    shards: ShardSet,
    bank: NoiseBank,
    needs: Collection[str],
    mesh: Mesh,
) -> RunData:
    """Returns the data of a run.

    Args:
        settings: The run's.
        shards: The records.
        bank: The noise.
        needs: Annotations that its batches carry.
        mesh: The run's.

    Raises:
        ConfigError: The batch does not divide by the devices.
        TableError: A table of annotations cannot be read, or does not fit the shards.
        AnnotationError: A column is needed that there is not.
        BatchError: The shards hold too few patients for a batch.
    """
    batch_size = settings.data.batch_size
    require_divisible(batch_size, mesh, settings.encoder.rows_at_once)
    advice = advise_batch_size(batch_size, mesh.size, mesh.devices.flat[0].platform)
    if advice:
        logging.warning("%s", advice)
    annotations = annotate(
        shards.annotations,
        shards.keys(),
        table_paths(settings.data.annotations),
        needed=needs,
        validation_fraction=settings.data.validation_fraction,
    )
    batch_rows = DealtRows(
        shards.patient_code,
        shards.n_leads,
        annotations.is_validation,
        batch_size=batch_size,
        seed=settings.seed,
        records_per_patient=settings.data.records_per_patient,
    )
    total_steps = settings.cadence.steps or settings.cadence.epochs * batch_rows.steps_per_epoch
    return RunData(
        shards=shards,
        bank=bank,
        annotations=annotations,
        columns={name: annotations.columns[name] for name in sorted(needs)},
        batch_rows=batch_rows,
        total_steps=total_steps,
    )


def require_divisible(batch_size: int, mesh: Mesh, rows_at_once: int = 0) -> None:
    """Returns if a global batch divides by the devices of a mesh, and a device's part of it again.

    Args:
        batch_size: Records in the whole batch.
        mesh: The run's.
        rows_at_once: Records that a device encodes at once, 0 for all.

    Raises:
        ConfigError: It does not.
    """
    if batch_size % mesh.size:
        lower = max(batch_size // mesh.size, 1) * mesh.size
        raise ConfigError(
            f"config.batch_size {batch_size} does not divide by {mesh.size} devices; use {lower} "
            f"or {lower + mesh.size}"
        )
    of_device = batch_size // mesh.size
    if rows_at_once and of_device % rows_at_once:
        raise ConfigError(
            f"config.rows_at_once {rows_at_once} does not divide the {of_device} records of a "
            f"batch on each device; use {math.gcd(of_device, rows_at_once)} or another divisor, or "
            "0 for all at once"
        )


def advise_batch_size(batch_size: int, devices: int, platform: str) -> str | None:
    """Returns a sentence for a batch that leaves lanes of TPUs empty, None for any other.

    A TPU lays views out along its 128 lanes, so that any number up to the next multiple of 128
    a device takes as long as that, or longer, as kernels need full lanes.

    Args:
        batch_size: Records in the whole batch, a multiple of `devices`.
        devices: Number of them.
        platform: As of `jax.Device.platform`.
    """
    full = FULL_LANES_RECORDS * devices
    if platform != "tpu" or batch_size % full == 0:
        return None
    upper = -(-batch_size // full) * full
    return (
        f"config.batch_size {batch_size} takes no less time a step than {upper} on {devices} "
        f"{platform.upper()} device{'s' if devices > 1 else ''}, whose lanes hold {_LANES} views, "
        f"{FULL_LANES_RECORDS} records, each; use a multiple of {full}"
    )
