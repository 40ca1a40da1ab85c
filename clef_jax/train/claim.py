"""Whose a workdir in a store is, where nothing can be locked."""

import pathlib

from clef_jax import stores
from clef_jax.errors import ClefError
from clef_jax.files import this_process


class WorkdirInUse(ClefError):
    """Another run writes to the workdir; the message names its process."""


class Claim:
    """Has a workdir in a store belong to the run that was last to say so, which is this one now.

    A killed run leaves no lock behind that someone would have to remove, and of two the earlier
    ends as soon as it is about to write.

    Args:
        holder: The object that says it.
    """

    def __init__(self, holder: pathlib.Path):
        self._holder, self._ours = holder, this_process()
        stores.put(holder, self._ours.encode())

    def require(self) -> None:
        """Raises WorkdirInUse where another run has taken over since."""
        try:
            with stores.reaching(self._holder):
                found = self._holder.read_text()
        except FileNotFoundError:
            found = f"which removed {self._holder.name}"
        if found != self._ours:
            raise WorkdirInUse(
                f"{self._holder.parent}: another run has taken it over ({found.strip()}), so that "
                "this one ends; wait for the other's end or choose another workdir"
            )
