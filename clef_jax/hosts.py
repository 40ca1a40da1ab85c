"""Devices and hosts: one `data` axis over all of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

DATA_AXIS = "data"


def data_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Returns the mesh of all processes' devices, or of those given, along `DATA_AXIS`.

    Devices stand in the order of their processes, unlike in `jax.make_mesh`, which follows a TPU's
    rings: a process's rows of the batch must follow each other, as they are read.
    """
    devices = jax.devices() if devices is None else devices
    ordered = sorted(devices, key=lambda device: (device.process_index, device.id))
    # Explicit axes would refuse ordinary reshapes.
    return Mesh(np.array(ordered), (DATA_AXIS,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of an array that every device holds whole."""
    return NamedSharding(mesh, P())


def split_rows(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of an array whose first axis is split over the devices."""
    return NamedSharding(mesh, P(DATA_AXIS))


def shapes_at(tree: Any, shardings: Any) -> Any:
    """Returns the shapes and types of arrays, as of arrays that lie by `shardings`.

    Args:
        tree: Arrays, or what `jax.eval_shape` makes of them.
        shardings: One for each, in the same structure, or in a prefix of it such as one for all.
    """
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        tree,
        jax.tree.broadcast(shardings, tree),
    )


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Returns host arrays, the same on every process, as arrays that every device holds whole."""
    sharding = replicated(mesh)

    def place(array):
        array = np.asarray(array)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(place, tree)


def replicate_here(tree: Any, mesh: Mesh) -> Any:
    """Returns arrays that every device of `mesh`, all of this process, holds whole.

    They share memory with `tree` wherever a device holds an array whole already, as it does the
    parameters of a run over several hosts.

    Args:
        tree: Arrays of the host, or of devices.
        mesh: Devices of this process.
    """
    sharding = replicated(mesh)

    def place(array):
        if isinstance(array, jax.Array) and not array.is_fully_addressable:
            held = {shard.device: shard.data for shard in array.addressable_shards}
            shards = [held[device] for device in mesh.devices.flat]
            return jax.make_array_from_single_device_arrays(array.shape, sharding, shards)
        return jax.device_put(array, sharding)

    return jax.tree.map(place, tree)


def whole(tree: Any) -> Any:
    """Returns arrays whole on each of the devices that hold them, or parts of them.

    To be called by every process. What is whole already is not copied.
    """

    def place(array):
        if array.is_fully_replicated:
            return array
        return jax.device_put(array, replicated(array.sharding.mesh))

    return jax.tree.map(place, tree)


def fetch(array: Any) -> np.ndarray:
    """Returns an array as one of the host; every process calls it if devices hold but parts."""
    is_elsewhere = isinstance(array, jax.Array) and not array.is_fully_addressable
    return np.asarray(whole(array) if is_elsewhere else array)


def of_all_processes(value: float) -> np.ndarray:
    """Returns the numbers with which all processes call this, `[processes]`."""
    if jax.process_count() == 1:
        return np.array([value])
    return multihost_utils.process_allgather(np.float32(value))


def to_devices(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Returns global arrays made of every process's rows; copies run in the background."""
    sharding = split_rows(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, rows) for name, rows in batch.items()
    }
