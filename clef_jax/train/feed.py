"""Batches on the devices, ahead of the step that needs them."""

import functools
from collections.abc import Iterator, Mapping
from typing import Protocol

import grain
import jax
import numpy as np
from jax.sharding import Mesh

from clef_jax import hosts
from clef_jax.data.batches.rows import RowsByStep
from clef_jax.data.batches.stream import make_batches
from clef_jax.data.shards.store import ShardSet

_BATCHES_AHEAD = 2


class DeviceBatches(Iterator[dict[str, jax.Array]], Protocol):
    """Global batches on the devices, by name of their fields."""

    def close(self) -> None:
        """Ends the threads and processes that read ahead."""


def device_batches(
    shards: ShardSet,
    rows: RowsByStep,
    mesh: Mesh,
    *,
    columns: Mapping[str, np.ndarray],
    first_step: int = 0,
    num_threads: int = 4,
    num_workers: int = 0,
) -> DeviceBatches:
    """Returns the global batches from `first_step` on, copied to the devices in the background.

    Arguments and fields are those of `data.batches.stream`, without `record`. Close the
    iterator when done.
    """
    batches = make_batches(
        shards,
        rows,
        columns=columns,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        first_step=first_step,
        num_threads=num_threads,
        num_workers=num_workers,
    )
    return placed_ahead(batches.map(_without_record), mesh)


def placed_ahead(batches: grain.IterDataset, mesh: Mesh) -> DeviceBatches:
    """Returns batches of this process's rows, copied to the devices ahead of their step.

    Args:
        batches: Host arrays by name, whose first axes the devices of the process divide.
        mesh: From `hosts.data_mesh`.
    """
    placed = batches.map(functools.partial(hosts.to_devices, mesh=mesh))
    return iter(
        grain.experimental.ThreadPrefetchIterDataset(placed, prefetch_buffer_size=_BATCHES_AHEAD)
    )


def _without_record(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: rows for name, rows in batch.items() if name != "record"}
