"""How a command becomes one of several processes, or stays alone."""

import contextlib
import sys

from clef_jax.cluster.join import joined
from clef_jax.cluster.parent import is_child, run_again
from clef_jax.cluster.place import find_place


def in_place(
    coordinator: str | None, processes: int | None, process: int | None
) -> contextlib.AbstractContextManager[None]:
    """Returns the context of this command's work, among others where there are several processes.

    To be called before any use of JAX's devices. Of several, the process that was started leaves
    here as soon as a child of its own has done the work: it watches over how that ends.

    Args:
        coordinator: `host:port` of process 0; this and the others where no cluster says them.
        processes: How many there are; 1 is alone.
        process: The number of this one.

    Raises:
        PlaceError: There are several, and it is not known where this one stands among them.
        RunEnded: The child was ended from outside, such as for want of another process.
    """
    place = find_place(coordinator, processes, process)
    if place is None:
        return contextlib.nullcontext()
    if not is_child():
        sys.exit(run_again(place))
    return joined(place)
