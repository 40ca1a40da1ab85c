"""Measures the bytes a second of batches beside those of plain reading from the same files.

    python -m benchmarks.bench_read
    python -m benchmarks.bench_read --gigabytes 20

Simulates a set of MIMIC-IV-ECG's size, 196 shards of 4,082 records: a few are written, of noise,
and the others are links to them. Prints and keeps a JSON line for each way (`kind`), number of
readers and state of the page cache:

- `batches`: views from shards to the host, 64 records a batch; readers are Grain's threads. Both
  views of a record count, though most are of one lead, which is read once.
- `entries`: `os.preadv` of as many pieces of a lead's 10 kB at random places; readers are threads.
- `files`: `os.preadv` of files from one end to the other, 1 MiB a piece.

They take turns. `share_of_files` is the rate over that of `files` with as many readers,
`share_of_entries` over that of `entries`; the same of bytes per CPU second of this process says
more than the clock where others use the machine. Before a turn with a cold cache the kernel is
asked to drop the files' pages, though a virtual disk may still hold them. Takes about ten
minutes on two cores.
"""

import concurrent.futures
import contextlib
import functools
import os
import pathlib
import tempfile
import time
from collections.abc import Callable, Sequence

import numpy as np
from absl import app, flags

from benchmarks.inputs import BATCH, columns, deal, evict
from benchmarks.results import Measurements
from benchmarks.simulated_set import (
    MIMIC_RECORDS,
    leave_links,
    leave_shards,
    write_noise,
    write_tables,
)
from clef_jax.data.batches.stream import make_batches
from clef_jax.data.shards.plan import WriteOptions
from clef_jax.data.shards.store import ShardSet
from clef_jax.data.shards.write import write_shards
from clef_jax.data.signals.spec import CLEF_V2
from clef_jax.hardware.timing import Times

_GIGABYTES = flags.DEFINE_float("gigabytes", 2.0, "Size of the shards that are no links.")
_QUICK = flags.DEFINE_bool("quick", False, "A small set, few batches, nothing kept.")

_SHARDS, _READERS = 196, (1, 8, 64)
_ENTRY_BYTES, _PIECE_BYTES = 10_000, 1 << 20


def batches_of(shards: ShardSet, count: int, readers: int) -> Callable[[], None]:
    """Returns what takes so many batches."""
    rows = deal(shards, BATCH)
    rows[0]  # Deals the epoch.

    def read() -> None:
        stream = iter(make_batches(shards, rows, columns=columns(shards), num_threads=readers))
        with contextlib.closing(stream):
            for _ in range(count):
                next(stream)

    return read


def pieces_of(
    files: Sequence[int], size: int, total: int, readers: int, *, scattered: bool
) -> Callable[[], None]:
    """Returns what reads pieces of files by so many threads.

    Args:
        files: Descriptors of files.
        size: Bytes of a piece.
        total: Bytes of all pieces.
        readers: Threads.
        scattered: Whether pieces are chosen at random, or follow each other.
    """
    ends = np.cumsum([os.fstat(file).st_size // size for file in files])
    number = np.arange(max(total // size, readers))
    if scattered:
        number = np.random.default_rng(0).choice(ends[-1], number.size, replace=False)
    at = np.searchsorted(ends, number, side="right")
    offset = size * (number - np.r_[0, ends][at])
    pieces = [(files[i], start) for i, start in zip(at, offset.tolist(), strict=True)]
    shares = [pieces[i * len(pieces) // readers : (i + 1) * len(pieces) // readers]
              for i in range(readers)]  # fmt: skip

    def read_share(share: list[tuple[int, int]]) -> None:
        piece = bytearray(size)
        for file, offset in share:
            os.preadv(file, [piece], offset)

    def read() -> None:
        with concurrent.futures.ThreadPoolExecutor(readers) as pool:
            list(pool.map(read_share, shares))

    return read


def measure(measurements: Measurements, shards: ShardSet, *, batches: int, rounds: int) -> None:
    """Adds a line for each way, number of readers and state of the page cache."""
    total = batches * BATCH * 2 * _ENTRY_BYTES
    folder = pathlib.Path(shards.folder)
    paths = sorted(folder.glob("leads-*"))
    distinct = {path.stat().st_ino: path.stat().st_size for path in paths}
    gigabytes = sum(distinct.values()) / 1e9
    with contextlib.ExitStack() as opened:
        files = [opened.enter_context(open(path, "rb")).fileno() for path in paths]
        ways: dict[tuple[str, int], Callable[[], None]] = {}
        for readers in _READERS:
            ways["batches", readers] = batches_of(shards, batches, readers)
            ways["entries", readers] = pieces_of(
                files, _ENTRY_BYTES, total, readers, scattered=True
            )
            ways["files", readers] = pieces_of(files, _PIECE_BYTES, total, readers, scattered=False)
        for cache in ("warm", "cold"):
            taken: dict[tuple[str, int], list[tuple[float, float]]] = {way: [] for way in ways}
            for way in list(ways) * rounds:
                if cache == "cold":
                    evict(folder)
                begun, cpu = time.perf_counter(), time.process_time()
                ways[way]()
                taken[way].append((time.perf_counter() - begun, time.process_time() - cpu))
            times = {way: Times.of([clock for clock, _ in found]) for way, found in taken.items()}
            cpu_times = {way: Times.of([cpu for _, cpu in found]) for way, found in taken.items()}
            for kind, readers in ways:
                way = kind, readers
                shares = {
                    f"share_of_{other}{suffix}": of[other, readers].median / of[way].median
                    for other in ("files", "entries")
                    for suffix, of in (("", times), ("_by_cpu", cpu_times))
                }
                measurements.add(
                    kind=kind, readers=readers, cache=cache, set_gb=gigabytes, read_gb=total / 1e9,
                    gb_per_s=total / times[way].median / 1e9,
                    gb_per_cpu_s=total / cpu_times[way].median / 1e9,
                    **shares, **times[way].fields(),
                )  # fmt: skip


def main(argv: list[str]) -> None:
    """Writes the shards and measures."""
    del argv
    measurements = Measurements("read", keep=not _QUICK.value)
    gigabytes, records, batches, rounds = (
        (0.1, 3000, 8, 1) if _QUICK.value else (_GIGABYTES.value, MIMIC_RECORDS, 256, 5)
    )
    records_per_shard = -(-records // _SHARDS)
    shard_bytes = records_per_shard * 12 * _ENTRY_BYTES
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_tables(folder, records, records // 4)
        noise = [str(folder / f"noise-{n}") for n in range(round(gigabytes * 1e9 / shard_bytes))]
        for seed, path in enumerate(noise):
            write_noise(path, records_per_shard, CLEF_V2.samples, seed=seed)
        write_shards(
            folder,
            folder / "shards",
            record_list=str(folder / "record_list.csv"),
            validation_fraction=0,
            options=WriteOptions(records_per_shard=records_per_shard),
            engine=functools.partial(leave_shards, functools.partial(leave_links, noise)),
        )
        shards = ShardSet(folder / "shards")
        measure(measurements, shards, batches=batches, rounds=rounds)


if __name__ == "__main__":
    app.run(main)
