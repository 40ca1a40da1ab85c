"""What one operation of a compiled program costs, and what all of them cost together."""

import dataclasses
from collections.abc import Iterable

from benchmarks.aot.hlo import Operation


@dataclasses.dataclass(frozen=True)
class Cost:
    """An operation's cost, over all its executions in a step.

    Attributes:
        operation: Which.
        times: Executions.
        compute_seconds: By the schedule, or by arithmetic at the device's peak.
        bytes: Moved between the device's main memory and the chip.
        memory_seconds: Of these bytes at the device's bandwidth.
        overhead_seconds: Of starting it.
        link_seconds: Of what it sends to other chips.
        background: Whether it runs beside others: an asynchronous copy or collective.
        flops: Of its products, where they were counted.
        known: Whether nothing about its time is a guess.
    """

    operation: Operation
    times: int
    compute_seconds: float
    bytes: int
    memory_seconds: float
    known: bool
    overhead_seconds: float = 0.0
    link_seconds: float = 0.0
    background: bool = False
    flops: int = 0

    @property
    def seconds(self) -> float:
        """Time by itself: computing, moving and sending overlap."""
        longest = max(self.compute_seconds, self.memory_seconds, self.link_seconds)
        return longest + self.overhead_seconds


def total_seconds(costs: Iterable[Cost]) -> float:
    """Returns the time of all: one after another, but copies and collectives in the background.

    Those take what bandwidth, of memory and of links, the others leave, and more time where that
    does not suffice.
    """
    costs = list(costs)
    in_turn = sum(cost.seconds for cost in costs if not cost.background)
    all_memory = sum(cost.memory_seconds for cost in costs)
    all_links = sum(cost.link_seconds for cost in costs)
    return max(in_turn, all_memory, all_links)
