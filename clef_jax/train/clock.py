"""How fast a run is, and how long it waits for data."""

import contextlib
import time
from collections.abc import Iterator
from typing import TypeVar

from clef_jax import hosts

_T = TypeVar("_T")


class Clock:
    """Measures throughput and waiting for data, leaving out compilation and other pauses.

    Args:
        batch_size: Records in a global batch.
        peak_records_per_s: Rate at which the devices' arithmetic would be at its peak, if known.
    """

    def __init__(self, batch_size: int, peak_records_per_s: float | None):
        self._batch_size, self._peak = batch_size, peak_records_per_s
        self._restart()

    def next_batch(self, batches: Iterator[_T]) -> _T:
        """Returns the next batch of an iterator, counting the time the step waits for it."""
        start = time.perf_counter()
        batch = next(batches)
        self._waited += time.perf_counter() - start
        self._steps += 1
        return batch

    @contextlib.contextmanager
    def paused(self):
        """Leaves out what happens inside, and the unfinished interval before it."""
        try:
            yield
        finally:
            self._restart()

    def rates(self) -> dict[str, float]:
        """Returns the rates since the last call, which must follow the end of all steps.

        To be called by every process after the same step. A step takes all of them equally long,
        as they wait for each other in its collectives: for the one that waits longest for data.
        """
        elapsed, steps, waited = time.perf_counter() - self._start, self._steps, self._waited
        if not steps:
            self._restart()
            return {}
        waits = hosts.of_all_processes(waited / elapsed)
        self._restart()
        rates = {
            "perf/records_per_s": steps * self._batch_size / elapsed,
            "perf/data_wait_frac": float(waits.max()),
        }
        if waits.size > 1:
            rates["perf/data_wait_frac_mean"] = float(waits.mean())
            rates["perf/slowest_host"] = int(waits.argmax())
        if self._peak:
            rates["perf/mfu"] = rates["perf/records_per_s"] / self._peak
        return rates

    def _restart(self) -> None:
        self._start, self._waited, self._steps = time.perf_counter(), 0.0, 0
