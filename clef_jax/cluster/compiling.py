"""Programs that no process runs before all have compiled them."""

from collections.abc import Callable
from typing import Any

from clef_jax.cluster.agreement import agreement


def compiled_by_all(function: Any) -> Callable[..., Any]:
    """Returns a jitted function whose first call waits until all processes have compiled it.

    Without, a process that finds its program in the cache waits in its first collective for those
    that compile theirs: JAX keeps programs of process 0 alone, and Gloo is patient for 30 s.

    Args:
        function: From `jax.jit`. It will be called with the same shapes and shardings each time.

    Raises:
        OtherProcessFailed: When called, where another process could not compile it.
    """
    compiled = None

    def call(*arguments: Any) -> Any:
        nonlocal compiled
        if compiled is None:
            with agreement():
                compiled = function.lower(*arguments).compile()
        return compiled(*arguments)

    return call
