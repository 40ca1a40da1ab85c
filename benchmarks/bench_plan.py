"""Measures what planning a large set costs a host, in seconds and memory.

    python -m benchmarks.bench_plan

The set is simulated at MIMIC-IV-ECG's size, 800,035 recordings of 161,352 patients: a list of
recordings, a table of risks, and shards that hold no samples. Prints and keeps one JSON line for
each part, those of writing (`write`) and those of a run's start (`start`, every host's own), each
in a process of its own; memory is the most that the process has held until the part's end, with
Python and libraries. Takes about three minutes on two cores.
"""

import concurrent.futures
import multiprocessing
import pathlib
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from absl import app, flags

from benchmarks.results import Measurements
from benchmarks.simulated_set import HOLLOW, MIMIC_PATIENTS, MIMIC_RECORDS, write_tables
from clef_jax.data.annotations.join import RiskTable, annotate
from clef_jax.data.batches.rows import DealtRows
from clef_jax.data.shards.store import ShardSet
from clef_jax.data.shards.write import write_shards

_QUICK = flags.DEFINE_bool("quick", False, "A small set, nothing kept.")

_HOSTS = 8
_STEPS = 100


class Parts:
    """The parts of one process, measured one after another."""

    def __init__(self):
        self.rows: list[dict[str, Any]] = []
        self.begin()

    def begin(self) -> None:
        """Begins a part."""
        self._begun, self._cpu = time.perf_counter(), time.process_time()

    def end(self, part: str) -> None:
        """Ends a part, and begins the next."""
        self.rows.append({
            "part": part,
            "seconds": time.perf_counter() - self._begun,
            "cpu_seconds": time.process_time() - self._cpu,
            "peak_mb": _peak_mb(),
        })  # fmt: skip
        self.begin()


def _peak_mb() -> float:
    # What getrusage calls the peak begins with that of the process which started this one.
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1e3


def write(folder: pathlib.Path) -> list[dict[str, Any]]:
    """Plans and merges the set; shards are left by other processes."""
    parts = Parts()

    def engine(tasks):
        parts.end("list, join and plan")
        HOLLOW(tasks)
        parts.begin()

    write_shards(
        folder,
        folder / "shards",
        record_list=str(folder / "record_list.csv"),
        risk=RiskTable(str(folder / "risk.parquet")),
        engine=engine,
    )
    parts.end("merge")
    return parts.rows


def start(folder: pathlib.Path) -> list[dict[str, Any]]:
    """Does what a host does at a run's start, but for devices."""
    parts = Parts()
    shards = ShardSet(folder / "shards")
    parts.end("open")
    tables, needed = [str(folder / "risk.parquet")], ("completeness", "risk")
    annotations = annotate(shards.annotations, shards.keys(), tables, needed=needed)
    parts.end("join")
    annotations.fingerprints(needed)
    parts.end("fingerprint")
    for mode in ("first", "random", "all"):
        batch = min(4096, shards.records // 20)
        rows = DealtRows(
            shards.patient_code,
            shards.n_leads,
            annotations.is_validation,
            batch_size=batch,
            seed=0,
            records_per_patient=mode,
        )
        assert rows[0].record.size == batch
        parts.end(f"deal {mode}")
    share = slice(0, batch // _HOSTS)
    for step in range(_STEPS):
        at = rows[step]
        assert np.all(shards.n_leads[at.record[share]] > at.slot[share].max(axis=1))
    parts.end(f"slice {_STEPS} batches")
    return parts.rows


def measured(
    function: Callable[[pathlib.Path], list[dict[str, Any]]], folder: pathlib.Path
) -> Iterator[dict[str, Any]]:
    """Yields a function's rows and their total, measured in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, spawn) as alone:
        rows = alone.submit(function, folder).result()
    yield from rows
    total = {name: sum(row[name] for row in rows) for name in ("seconds", "cpu_seconds")}
    yield {"part": "total", **total, "peak_mb": rows[-1]["peak_mb"]}


def main(argv: list[str]) -> None:
    """Simulates the set and measures."""
    del argv
    measurements = Measurements("plan", keep=not _QUICK.value)
    records, patients = (2000, 500) if _QUICK.value else (MIMIC_RECORDS, MIMIC_PATIENTS)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_tables(folder, records, patients)
        for kind, function in (("write", write), ("start", start)):
            for row in measured(function, folder):
                measurements.add(kind=kind, records=records, patients=patients, **row)


if __name__ == "__main__":
    app.run(main)
