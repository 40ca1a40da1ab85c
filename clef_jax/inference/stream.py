"""Many recordings to embeddings: blocks of windows into full batches, results in order."""

import collections
import dataclasses
import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from clef_jax.data.windows.pool import WindowBlock
from clef_jax.data.windows.sources import Failure
from clef_jax.inference.embeddings import without_unusable
from clef_jax.inference.forward import Forward


@dataclasses.dataclass
class Timings:
    """Where the time went, seconds; the first two are sums over the reading processes.

    Attributes:
        reading: Opening and reading files.
        preprocessing: Filling gaps, resampling, filtering, judging.
        waiting: The embedding process without a block to work on.
        computing: The embedding process handing over batches and waiting for their results.
    """

    reading: float = 0.0
    preprocessing: float = 0.0
    waiting: float = 0.0
    computing: float = 0.0


@dataclasses.dataclass
class EmbeddedBlock:
    """A block of windows and their embeddings, float32 [rows, D]."""

    block: WindowBlock
    embedding: np.ndarray


def embed_blocks(
    forward: Forward,
    results: Iterable[WindowBlock | Failure],
    *,
    rows_per_device: int | None,
    after: int,
    timings: Timings,
) -> Iterator[EmbeddedBlock | Failure]:
    """Embeds blocks in full batches across recordings and yields every result in its order.

    However often a run is cut off, the embeddings of its blocks are the same, bit for bit, unless a
    recording fails halfway.

    Args:
        forward: The encoder.
        results: Blocks of preprocessed windows, and failures, which pass through.
        rows_per_device: The most that a device computes at once; what suits it by default.
        after: How many windows an earlier run embedded, before these.
        timings: Is added to.
    """
    results = _Clocked(results)
    read: collections.deque[WindowBlock | Failure] = collections.deque()

    def inputs() -> Iterator[np.ndarray | None]:
        for result in results:
            read.append(result)
            yield result.windows.x if isinstance(result, WindowBlock) else None

    computed = _Clocked(forward.stream(inputs(), rows_per_device=rows_per_device, after=after))
    for outputs in computed:
        result = read.popleft()
        if isinstance(result, Failure):
            yield result
            continue
        windows = result.windows
        timings.reading += windows.read_s
        timings.preprocessing += windows.preprocess_s
        yield EmbeddedBlock(result, without_unusable(outputs.embedding, windows.quality))
    timings.waiting += results.seconds
    timings.computing += computed.seconds - results.seconds


class _Clocked:
    """An iterator, with the seconds that its consumer waited for it."""

    def __init__(self, items: Iterable):
        self._items = iter(items)
        self.seconds = 0.0

    def __iter__(self) -> "_Clocked":
        return self

    def __next__(self) -> Any:
        begin = time.perf_counter()
        try:
            return next(self._items)
        finally:
            self.seconds += time.perf_counter() - begin
