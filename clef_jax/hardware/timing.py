"""Timing of several candidates in turn, so that whatever else the machine does hits them alike."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Times:
    """Durations of repeated calls, in seconds.

    Attributes:
        median: Their median.
        best: The shortest.
        spread: Interquartile range over the median.
        count: How many there were.
    """

    median: float
    best: float
    spread: float
    count: int

    @classmethod
    def of(cls, durations: list[float]) -> "Times":
        """Returns the summary of at least one duration."""
        median = statistics.median(durations)
        quartiles = statistics.quantiles(durations, n=4) if len(durations) > 1 else [median] * 3
        spread = (quartiles[2] - quartiles[0]) / median
        return cls(median, min(durations), spread, len(durations))

    def fields(self, prefix: str = "") -> dict[str, Any]:
        """Returns the fields of a measurement's JSON line."""
        return {
            f"{prefix}seconds": self.median,
            f"{prefix}best_seconds": self.best,
            f"{prefix}spread": self.spread,
            f"{prefix}repeats": self.count,
        }


def interleaved(
    candidates: Mapping[str, Callable[[], Any]],
    *,
    rounds: int,
    give_up: float | None = None,
    calls: int = 1,
) -> dict[str, Times]:
    """Times every candidate once a round, in turn: A B C A B C.

    Args:
        candidates: Functions that return when their work is done, named.
        rounds: Number of rounds.
        give_up: After three rounds, leave out of later ones a candidate whose best is this many
            times the best of all; None keeps all to the end.
        calls: Calls that make up one duration, divided by their number.
    """
    durations: dict[str, list[float]] = {name: [] for name in candidates}
    running = list(candidates)
    for number in range(rounds):
        for name in running:
            begin = time.perf_counter()
            for _ in range(calls):
                candidates[name]()
            durations[name].append((time.perf_counter() - begin) / calls)
        if give_up is not None and number >= 2:
            best = min(min(durations[name]) for name in running)
            running = [name for name in running if min(durations[name]) <= give_up * best]
    return {name: Times.of(values) for name, values in durations.items()}
