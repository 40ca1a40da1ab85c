"""Measures the bytes a second of batches beside those of plain reading from the same files.

    python -m benchmarks.bench_read
    python -m benchmarks.bench_read --gigabytes 20

Writes shards of noise, as many files as MIMIC-IV-ECG makes (196), and prints and keeps a JSON line
for each way (`kind`), number of readers and state of the page cache:

- `batches`: views from shards to the host, 64 records a batch; readers are Grain's threads. Both
  views of a record count, though most are of one lead, which is read once.
- `entries`: `os.preadv` of as many pieces of a lead's 10 kB at random places; readers are threads.
- `files`: `os.preadv` of files from one end to the other, 1 MiB a piece.

They take turns. `share_of_files` is the rate over that of `files` with as many readers,
`share_of_entries` over that of `entries`; the same of bytes per CPU second of this process says
more than the clock where others use the machine. Before a turn with a cold cache the kernel is
asked to drop the files' pages, though a virtual disk may still hold them. Takes about five minutes
on two cores.
"""

import concurrent.futures
import contextlib
import os
import pathlib
import tempfile
import time
from collections.abc import Callable, Sequence

import numpy as np
from absl import app, flags

from benchmarks.inputs import BATCH, columns, deal, evict
from benchmarks.results import Measurements
from benchmarks.simulated_set import NOISE, write_tables
from clef_jax.data.batches.stream import make_batches
from clef_jax.data.shards.plan import WriteOptions
from clef_jax.data.shards.store import ShardSet
from clef_jax.data.shards.write import write_shards
from clef_jax.hardware.timing import Times

_GIGABYTES = flags.DEFINE_float("gigabytes", 2.0, "Size of the set.")
_QUICK = flags.DEFINE_bool("quick", False, "A small set, few batches, nothing kept.")

_SHARDS, _READERS = 196, (1, 8, 64)
_ENTRY_BYTES, _PIECE_BYTES = 10_000, 1 << 20


def batches_of(shards: ShardSet, count: int, readers: int) -> Callable[[], None]:
    """Returns what takes so many batches."""
    rows = deal(shards, BATCH)

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
    pieces = [
        (file, offset)
        for file in files
        for offset in range(0, os.fstat(file).st_size - size + 1, size)
    ]
    if scattered:
        pieces = [pieces[i] for i in np.random.default_rng(0).permutation(len(pieces))]
    pieces = pieces[: max(total // size, readers)]
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
    gigabytes = sum(path.stat().st_size for path in paths) / 1e9
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
    gigabytes, batches, rounds = (0.3, 8, 1) if _QUICK.value else (_GIGABYTES.value, 256, 5)
    records = int(gigabytes * 1e9 / 12 / _ENTRY_BYTES)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_tables(folder, records, records // 4)
        write_shards(
            folder,
            folder / "shards",
            record_list=str(folder / "record_list.csv"),
            validation_fraction=0,
            options=WriteOptions(records_per_shard=-(-records // _SHARDS)),
            engine=NOISE,
        )
        shards = ShardSet(folder / "shards")
        measure(measurements, shards, batches=batches, rounds=rounds)


if __name__ == "__main__":
    app.run(main)
