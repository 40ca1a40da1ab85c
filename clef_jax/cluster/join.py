"""Being one of several processes: meeting the others, and leaving them in good order."""

import atexit
import contextlib
import os
import re
import socket
import time
from collections.abc import Iterator

import jax
from jax._src import distributed

from clef_jax.cluster.parent import leave_with_parent
from clef_jax.cluster.place import MEET_SECONDS, Place, PlaceError

# A process of which nothing is heard for so long is taken to be gone, and JAX ends all others.
HEARTBEAT_SECONDS = 40
# How long those whose work failed for want of another wait to be told which: a little longer.
_VERDICT_SECONDS = HEARTBEAT_SECONDS + 15
# How long one that fails waits for the others to fail as well, as of the same wrong setting.
_FAREWELL_SECONDS = 5
# What errors begin with that a collective raises because another process is gone.
_OTHERS_FAULT = re.compile(r"(UNKNOWN|UNAVAILABLE|INTERNAL|ABORTED|DEADLINE_EXCEEDED): ")


@contextlib.contextmanager
def joined(place: Place) -> Iterator[None]:
    """Joins this process, a child of `parent.run_again`, to the others while the block runs.

    To be entered before any other use of JAX's devices. After an error this process leaves the
    others at its exit without waiting for them, unless they come to fail as well.

    Args:
        place: Of this process.

    Raises:
        PlaceError: Process 0 is not there.
    """
    leave_with_parent()
    if place.process:
        _await_process_0(place)
    jax.distributed.initialize(
        place.coordinator,
        place.processes,
        place.process,
        local_device_ids=place.devices,
        cluster_detection_method="deactivate",
        initialization_timeout=MEET_SECONDS,
        heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
    )
    try:
        yield
    except Exception as error:
        if _is_others_fault(error):
            time.sleep(_VERDICT_SECONDS)  # In which JAX ends this process.
        _say_farewell()
        raise


def _await_process_0(place: Place) -> None:
    """Returns once process 0 can be reached: JAX would not say that it cannot."""
    host, _, port = place.coordinator.rpartition(":")
    deadline = time.monotonic() + MEET_SECONDS
    while True:
        try:
            return socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
        except OSError as error:
            if time.monotonic() > deadline:
                raise PlaceError(
                    f"process 0 was not at {place.coordinator} for {MEET_SECONDS} s ({error}); "
                    f"start it too, and name it as {socket.gethostname()} can reach it, the host "
                    f"of process {place.process}"
                ) from None
        time.sleep(0.5)


def _is_others_fault(error: BaseException | None) -> bool:
    """Returns whether an error comes of another process's end, be it by way of other errors."""
    while error is not None:
        if _OTHERS_FAULT.match(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def _say_farewell() -> None:
    client = distributed.global_state.client
    assert client is not None
    try:
        client.wait_at_barrier("clef_jax: failed", _FAREWELL_SECONDS * 1000)
    except (RuntimeError, ValueError):
        # Before JAX's own exit, in which it waits for the others, who wait for this process.
        atexit.register(os._exit, 1)
