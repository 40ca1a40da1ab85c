r"""Measures how fast batches come: from shards, the original's way, and while the step runs.

    python -m benchmarks.bench_input
    python -m benchmarks.bench_input --records ptb-xl/records500 --sizes clef_medium

Prints and keeps one JSON line for each way (`kind`), number of readers and state of the page cache:

- `pipeline`: int16 views from shards to the host; readers are threads.
- `device`: the same, on to the device.
- `original`: WFDB files read, filtered, augmented and z-scored per item (`original_dataset.py`);
  readers are processes of PyTorch's DataLoader, and 0 reads in the main process.
- `fed`: the training step on batches from the shards, each step waited for. `data_wait` is the
  share of time in which the device stands still for want of data, the stream's start included.

The first three take turns. They do not do the same work: ours filters once, when the shards are
written, and augments on the device, inside the step; the original does both for every item. All
end with what their step takes. A turn starts with nothing read ahead; only the DataLoader's
processes are running already. Before a turn with a cold cache the kernel is asked to drop the
files' pages, though a virtual disk may still hold them; where there are many cores, the original
then reads some records a second time, warm.

Without --records, recordings are simulated. Takes about five minutes on two cores.
"""

import contextlib
import functools
import os
import pathlib
import tempfile
import time
from collections.abc import Callable, Generator

import jax
import numpy as np
from absl import app, flags

from benchmarks.inputs import BATCH, columns, deal, evict
from benchmarks.original_dataset import ReadEveryTime, make_loader
from benchmarks.programs import default_batch, default_dtype, make_program
from benchmarks.results import Measurements
from clef_jax import hosts
from clef_jax.data.batches.stream import make_batches
from clef_jax.data.demo import cohort
from clef_jax.data.noise.simulated import simulate_noise_bank
from clef_jax.data.shards.store import ShardSet
from clef_jax.data.shards.write import write_shards
from clef_jax.hardware import allocator
from clef_jax.hardware.timing import Times, interleaved
from clef_jax.train.clock import Clock
from clef_jax.train.feed import device_batches

_RECORDS = flags.DEFINE_string("records", None, "Folder of 12-lead WFDB records, 10 s at 500 Hz.")
_SIZES = flags.DEFINE_list("sizes", "clef_small,clef_medium,clef_large", "Sizes to feed.")
_QUICK = flags.DEFINE_bool("quick", False, "Few batches, small only, nothing kept.")


def make_streams(
    records: pathlib.Path, shards: ShardSet
) -> dict[tuple[str, int], Callable[[], Generator]]:
    """Returns (kind, readers) -> function that starts the stream of batches."""
    mesh = hosts.data_mesh(jax.devices()[:1])
    rows = deal(shards, BATCH)
    paths = [str(records / name) for name in shards.record]
    noise = simulate_noise_bank(0, 60.0, shards.spec.fs).signal
    dataset = ReadEveryTime(paths, np.nan_to_num(shards.annotations.columns["risk"]), noise)
    cores = os.cpu_count()
    streams = {}
    for threads in sorted({min(2**i, cores) for i in range(cores.bit_length() + 1)}):
        streams["pipeline", threads] = lambda n=threads: iter(
            make_batches(shards, rows, columns=columns(shards), num_threads=n)
        )
        streams["device", threads] = functools.partial(
            device_batches, shards, rows, mesh, columns=columns(shards), num_threads=threads
        )
    for workers in (0, cores):
        loader = make_loader(dataset, BATCH, workers=workers, batches=_original_batches(workers))
        streams["original", workers] = lambda loader=loader: (batch for batch in loader)
    return streams


def _original_batches(workers: int) -> int:
    # Each process reads whole batches.
    return 4 * max(workers, 1)


def seconds_of(start: Callable[[], Generator], batches: int) -> float:
    """Returns how long a stream takes to start and to give so many batches."""
    begin = time.perf_counter()
    with contextlib.closing(start()) as stream:
        for _ in range(batches):
            jax.block_until_ready(next(stream))
        return time.perf_counter() - begin


def measure_streams(
    measurements: Measurements,
    data: str,
    records: pathlib.Path,
    shards: ShardSet,
    *,
    batches: int,
    rounds: int,
) -> None:
    """Adds a line for each stream, first with all files in the page cache, then with none.

    Args:
        measurements: Where lines go.
        data: What is read, in a word.
        records: The recordings of the shards, which have just been read or written.
        shards: The shards.
        batches: Batches of a turn of ours with a warm cache; a turn with a cold one is an epoch.
        rounds: Turns of each.
    """
    streams = make_streams(records, shards)
    epoch = deal(shards, BATCH).steps_per_epoch
    # Starts the DataLoader's processes, which then stay.
    for kind, workers in streams:
        if kind == "original":
            seconds_of(streams[kind, workers], _original_batches(workers))
    for cache, ours in (("warm", batches), ("cold", epoch)):
        counts = {
            (kind, readers): _original_batches(readers) if kind == "original" else ours
            for kind, readers in streams
        }
        durations = {way: [] for way in streams}
        for way in list(streams) * rounds:
            if cache == "cold":
                evict(records)
                evict(pathlib.Path(shards.folder))
            durations[way].append(seconds_of(streams[way], counts[way]))
        times = {way: Times.of(found) for way, found in durations.items()}
        rates = {way: BATCH * counts[way] / times[way].median for way in streams}
        best = max(rate for (kind, _), rate in rates.items() if kind == "original")
        for kind, readers in streams:
            way = kind, readers
            measurements.add(
                kind=kind, readers=readers, cache=cache, batch=BATCH, data=data,
                records_per_s=rates[way], times_original=rates[way] / best, **times[way].fields(),
            )  # fmt: skip


def measure_fed(
    measurements: Measurements, data: str, shards: ShardSet, size: str, batch: int, steps: int
) -> None:
    """Adds a line on the step of one size, alone and fed from the shards."""
    dtype = default_dtype()
    program = make_program(size, batch, dtype=dtype, devices=1)
    program.step()
    alone = interleaved({"step": program.step}, rounds=steps)["step"]
    mesh = hosts.data_mesh(jax.devices()[:1])
    clock = Clock(batch, None)
    batches = device_batches(shards, deal(shards, batch), mesh, columns=columns(shards))
    with contextlib.closing(batches) as stream:
        for _ in range(steps):
            jax.block_until_ready(program.run(clock.next_batch(stream)))
        rates = clock.rates()
    measurements.add(
        kind="fed", size=size, batch=batch, dtype=dtype, data=data,
        records_per_s=rates["perf/records_per_s"], data_wait=rates["perf/data_wait_frac"],
        alone_records_per_s=batch / alone.median, steps=steps,
    )  # fmt: skip


def main(argv: list[str]) -> None:
    """Writes the shards and measures."""
    del argv
    allocator.keep_freed_memory()
    measurements = Measurements("input", keep=not _QUICK.value)
    sizes = ["clef_small"] if _QUICK.value else _SIZES.value
    fed = {size: 4 if _QUICK.value else default_batch(size) for size in sizes}
    data = "simulated" if _RECORDS.value is None else "recordings"
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        records = pathlib.Path(_RECORDS.value or folder / "records")
        if _RECORDS.value is None:
            patients = BATCH if _QUICK.value else max(512, *fed.values())
            cohort.write_simulated_cohort(records, patients, seed=0)
        write_shards(records, folder / "shards", validation_fraction=0)
        shards = ShardSet(folder / "shards")
        batches, rounds = (4, 1) if _QUICK.value else (400, 5)
        measure_streams(measurements, data, records, shards, batches=batches, rounds=rounds)
        steps = 2 if _QUICK.value else (5 if jax.default_backend() == "cpu" else 50)
        for size, batch in fed.items():
            measure_fed(measurements, data, shards, size, batch, steps)


if __name__ == "__main__":
    app.run(main)
