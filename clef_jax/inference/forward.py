"""The encoder's forward pass, compiled once for each shape of its input."""

import functools
from collections.abc import Iterator

import jax
import numpy as np

from clef_jax.models import ResNeXt1D
from clef_jax.ops.precision import multiply_as


@functools.partial(jax.jit, static_argnums=(0, 1))
def forward(
    model: ResNeXt1D, layers: tuple[str, ...], params, x: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Returns embeddings `[N, D]` and the outputs `[N, T_s, width]` of the named stages."""
    with multiply_as(model.dtype):
        embedding, state = model.apply({"params": params}, x, mutable=["intermediates"])
    return embedding, {name: state["intermediates"][name][0] for name in layers}


def default_batch_size() -> int:
    """Returns the largest batch that pays on this machine's backend."""
    # On a processor more rows than its caches hold make each one slower: measured 1.5 to 2 times.
    return 8 if jax.default_backend() == "cpu" else 64


def batch_sizes(largest: int) -> tuple[int, ...]:
    """Returns the few batch sizes that are compiled, largest first, such as 64, 8, 1."""
    sizes = [largest]
    while sizes[-1] > 1:
        sizes.append(max(1, sizes[-1] // 8))
    return tuple(sizes)


def split_batches(rows: int, largest: int, smallest: int = 1) -> Iterator[tuple[slice, int]]:
    """Yields (rows, compiled size) that cover `rows` in order with batches of `batch_sizes`.

    A batch is padded where at least half of it is real, or it is of the smallest size.
    """
    sizes = [size for size in batch_sizes(largest) if size >= smallest]
    done = 0
    while done < rows:
        left = rows - done
        size = next((size for size in sizes if 2 * left >= size), sizes[-1])
        yield slice(done, min(done + size, rows)), size
        done += size


def padded(x: np.ndarray, size: int) -> np.ndarray:
    """Returns `x` with rows of zeros appended up to `size`."""
    missing = size - len(x)
    return np.pad(x, ((0, missing), *((0, 0),) * (x.ndim - 1))) if missing else x
