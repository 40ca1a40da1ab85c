"""Which examples a step trains on, a pure function of seed and step, and their reading."""

import dataclasses
import functools

import grain
import numpy as np
from jax.sharding import Mesh

from clef_jax.evaluate.finetune.inputs import Inputs
from clef_jax.evaluate.finetune.options import FinetuneError, Options
from clef_jax.train.feed import DeviceBatches, placed_ahead

# Batches read at once.
_THREADS = 2


class DealtExamples:
    """The training rows of every step. Thread-safe.

    An epoch ends with a batch of the rows that are left.

    Args:
        inputs: The examples.
        options: Batch size, sampling, epochs.
        seed: Of the order.

    Raises:
        FinetuneError: Classes are to be balanced that a row can have several of, or none.
    """

    def __init__(self, inputs: Inputs, options: Options, seed: int):
        self._rows = inputs.rows("train")
        self._size, self._seed = options.batch_size, seed
        self._sampling = options.sampling
        self._share = _balanced(inputs, self._rows) if options.sampling == "balanced" else None
        self.steps_per_epoch = -(-len(self._rows) // self._size)
        self._steps = options.epochs * self.steps_per_epoch

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> np.ndarray:
        epoch, batch = divmod(int(step), self.steps_per_epoch)
        return _cached_epoch(self, epoch)[batch * self._size : (batch + 1) * self._size]

    def _epoch(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng([self._seed, epoch])
        match self._sampling:
            case "in order":
                return self._rows
            case "balanced":
                return rng.choice(self._rows, len(self._rows), p=self._share)
        return rng.permutation(self._rows)


@functools.lru_cache(maxsize=4)
def _cached_epoch(dealt: DealtExamples, epoch: int) -> np.ndarray:
    return dealt._epoch(epoch)


def _balanced(inputs: Inputs, rows: np.ndarray) -> np.ndarray:
    if inputs.kind not in ("multiclass", "binary"):
        raise FinetuneError(
            f"sampling is 'balanced', but the task is {inputs.kind}: only classes that exclude "
            "each other can be drawn alike; choose 'shuffled'"
        )
    _, of_row, counts = np.unique(inputs.labels[rows, 0], return_inverse=True, return_counts=True)
    weight = 1 / counts[of_row]
    return weight / weight.sum()


@dataclasses.dataclass(frozen=True)
class ReadExamples:
    """Reads the rows of a batch, filled up with rows of which nothing is known.

    Attributes:
        x: `[N, T]`.
        target: `[N, L]`, float32.
        size: Rows of every batch.
    """

    x: np.ndarray
    target: np.ndarray
    size: int

    def shapes(self, batch_size: int) -> dict[str, np.ndarray]:
        """Returns a batch of so many rows, for `StepProgram.batch`."""
        widths = {"x": self.x.shape[1], "target": self.target.shape[1]}
        return {
            name: np.broadcast_to(np.float32(0), (batch_size, width))
            for name, width in widths.items()
        }

    def __call__(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Returns `x` float32 `[size, T]` and `target` float32 `[size, L]` of rows `[n]`."""
        missing = ((0, self.size - len(rows)), (0, 0))
        return {
            "x": np.pad(np.asarray(self.x[rows], np.float32), missing),
            "target": np.pad(self.target[rows], missing, constant_values=np.nan),
        }


def read_ahead(
    dealt: DealtExamples, read: ReadExamples, mesh: Mesh, *, first_step: int
) -> DeviceBatches:
    """Returns the batches from `first_step` on, on the devices ahead of their step.

    Close the iterator when done.
    """
    by_step = grain.MapDataset.source(dealt)[first_step:]
    options = grain.ReadOptions(num_threads=_THREADS, prefetch_buffer_size=2 * _THREADS)
    return placed_ahead(by_step.map(read).to_iter_dataset(options), mesh)
