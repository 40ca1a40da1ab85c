"""From shards to batches: Grain moves numbers of rows, and one read per batch moves the bytes.

The rows of a step's batch (which records, which leads) are a pure function of (seed, step), dealt
for the whole global batch; a process then reads its own share of them. So the stream is the same
for any number of processes, workers and threads, and a run resumes at any step by starting there.
"""

import dataclasses
from collections.abc import Mapping

import grain
import numpy as np

from clef_jax.data.batches.rows import BatchError, BatchRows, RowsByStep
from clef_jax.data.shards.store import ShardSet
from clef_jax.processes import leave_with_parent


@dataclasses.dataclass(frozen=True)
class ReadRows:
    """Reads one process's share of a batch. Picklable: Grain's workers each open the shards."""

    shards: ShardSet
    columns: Mapping[str, np.ndarray]
    share: slice

    def __call__(self, rows: BatchRows) -> dict[str, np.ndarray]:
        """Returns the batch of `make_batches` that these rows make."""
        record, slot = rows.record[self.share], rows.slot[self.share]
        pairs = np.repeat(record, 2), slot.reshape(-1)
        ecg = self.shards.read(*pairs)
        return {
            "ecg": ecg.reshape(record.size, 2, -1),
            "scale_mv": self.shards.scale_mv[pairs].reshape(-1, 2),
            "lead": self.shards.lead_ids[pairs].reshape(-1, 2).astype(np.int32),
            "record": record,
        } | {name: values[record] for name, values in self.columns.items()}


def _start_worker(worker: int, workers: int) -> None:
    leave_with_parent()


def make_batches(
    shards: ShardSet,
    rows: RowsByStep,
    *,
    columns: Mapping[str, np.ndarray],
    process_index: int = 0,
    process_count: int = 1,
    first_step: int = 0,
    num_threads: int = 4,
    num_workers: int = 0,
) -> grain.IterDataset:
    """Returns the stream of one process's share of the global batches, from `first_step` on.

    Args:
        shards: The shard set.
        rows: Those of each batch to read.
        columns: Annotations `[n]` that go along, by name.
        process_index: This host's number.
        process_count: Number of hosts; divides the batch size. Rows go to hosts in order.
        first_step: Step at which the stream starts.
        num_threads: Batches read at once, per worker.
        num_workers: Reading processes besides this one; 0 reads in this process's threads.

    Returns:
        An iterable of `{"ecg": int16 [b, 2, samples], "scale_mv": float32 [b, 2] (mV per step of
        ecg), "lead": int32 [b, 2] (ids in the shards' montage), "record": int64 [b]}` and, under
        their names, the columns `[b]`; b is the local batch size.

    Raises:
        BatchError: The batch size does not divide by the number of processes.
    """
    batch_size = rows[0].record.size
    local, rest = divmod(batch_size, process_count)
    if rest:
        raise BatchError(f"batch size {batch_size} does not divide by {process_count} processes")
    share = slice(process_index * local, (process_index + 1) * local)
    by_step = grain.MapDataset.source(rows)[first_step:]
    batches = by_step.map(ReadRows(shards, columns, share)).to_iter_dataset(
        grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=2 * num_threads)
    )
    if num_workers:
        batches = batches.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=num_workers), _start_worker
        )
    return batches
