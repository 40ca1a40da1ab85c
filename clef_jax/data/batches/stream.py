"""From shards to batches: Grain moves plans of batches, and one read per batch moves the bytes.

The plan of a step (which records, which leads) is a pure function of (seed, step) over the whole
global batch; a process then reads its own rows of it. So the stream is the same for any number of
processes, workers and threads, and a run resumes at any step by starting its plan there.
"""

import dataclasses
from collections.abc import Mapping

import grain
import numpy as np

from clef_jax.data.batches.plans import Plan, PlanError, Plans
from clef_jax.data.shards.store import ShardSet
from clef_jax.processes import leave_with_parent


@dataclasses.dataclass(frozen=True)
class ReadRows:
    """Reads one process's rows of a plan. Picklable: Grain's workers each open the shards."""

    shards: ShardSet
    columns: Mapping[str, np.ndarray]
    rows: slice

    def __call__(self, plan: Plan) -> dict[str, np.ndarray]:
        """Returns the batch of `make_batches` for a plan."""
        record, slot = plan.record[self.rows], plan.slot[self.rows]
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
    plans: Plans,
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
        plans: The batches to read.
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
        PlanError: The batch size does not divide by the number of processes.
    """
    batch_size = plans[0].record.size
    local, rest = divmod(batch_size, process_count)
    if rest:
        raise PlanError(f"batch size {batch_size} does not divide by {process_count} processes")
    rows = slice(process_index * local, (process_index + 1) * local)
    plan_stream = grain.MapDataset.source(plans)[first_step:]
    batches = plan_stream.map(ReadRows(shards, columns, rows)).to_iter_dataset(
        grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=2 * num_threads)
    )
    if num_workers:
        batches = batches.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=num_workers), _start_worker
        )
    return batches
