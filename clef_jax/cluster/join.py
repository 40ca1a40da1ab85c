"""Joining the processes of a run."""

import jax

from clef_jax.cluster.place import MEET_SECONDS, Place


def join(place: Place) -> None:
    """Joins this process to the others; call it before any other use of JAX's devices.

    Args:
        place: Of this process.
    """
    jax.distributed.initialize(
        place.coordinator,
        place.processes,
        place.process,
        local_device_ids=place.devices,
        cluster_detection_method="deactivate",
        initialization_timeout=MEET_SECONDS,
    )
