"""Many recordings to embeddings: blocks of windows into full batches, results in order."""

import collections
import dataclasses
import time
from collections.abc import Iterable, Iterator

import numpy as np

from clef_jax.data.windows.pool import Block
from clef_jax.data.windows.sources import Failure
from clef_jax.inference.embeddings import without_unusable
from clef_jax.inference.encoder import Encoder
from clef_jax.inference.forward import forward, padded, split_batches

# Batches computing while the next is gathered.
_IN_FLIGHT = 2


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

    block: Block
    embedding: np.ndarray


def embed_blocks(
    encoder: Encoder,
    results: Iterable[Block | Failure],
    *,
    batch_size: int,
    timings: Timings,
) -> Iterator[EmbeddedBlock | Failure]:
    """Embeds blocks in full batches across recordings and yields every result in its order.

    Args:
        encoder: The encoder.
        results: Blocks of preprocessed windows, and failures, which pass through.
        batch_size: The largest batch.
        timings: Is added to.
    """
    queue: collections.deque = collections.deque()
    inputs: list[np.ndarray] = []
    in_flight: collections.deque = collections.deque()
    outputs: list[np.ndarray] = []
    compiled_full = False

    def dispatch(rows: int) -> None:
        nonlocal compiled_full
        x = np.concatenate(inputs)
        inputs[:] = [x[rows:]] if rows < len(x) else []
        compiled_full |= rows >= batch_size
        # Computing some rows of padding costs less than compiling another shape for the last rows.
        parts = split_batches(rows, batch_size, smallest=batch_size if compiled_full else 1)
        for part, size in parts:
            y, _ = forward(encoder.model, (), encoder.params, padded(x[:rows][part], size))
            in_flight.append((y, part.stop - part.start))

    def collect(leave: int) -> None:
        while len(in_flight) > leave:
            y, rows = in_flight.popleft()
            outputs.append(np.asarray(y)[:rows])

    def finished() -> Iterator[EmbeddedBlock | Failure]:
        while queue:
            if isinstance(queue[0], Failure):
                yield queue.popleft()
                continue
            rows = len(queue[0].windows.quality)
            if sum(map(len, outputs)) < rows:
                return
            y = np.concatenate(outputs)
            outputs[:] = [y[rows:]]
            block = queue.popleft()
            yield EmbeddedBlock(block, without_unusable(y[:rows], block.windows.quality))

    results = iter(results)
    while True:
        begin = time.perf_counter()
        result = next(results, None)
        timings.waiting += time.perf_counter() - begin
        begin = time.perf_counter()
        if isinstance(result, Block):
            timings.reading += result.windows.read_s
            timings.preprocessing += result.windows.preprocess_s
            inputs.append(result.windows.x)
            result.windows.x = result.windows.x[:0]
        if result is not None:
            queue.append(result)
        waiting = sum(map(len, inputs))
        if rows := waiting if result is None else waiting // batch_size * batch_size:
            dispatch(rows)
        collect(leave=0 if result is None else _IN_FLIGHT)
        timings.computing += time.perf_counter() - begin
        yield from finished()
        if result is None:
            return
