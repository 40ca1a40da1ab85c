"""From recordings to a finished folder of shards, in parallel, resumable at any point.

The plan (which records of which patients, in which shard) depends on the input alone. One shard's
slice of it is one task. What runs the tasks, processes of this machine or another engine, changes
nothing in the files. A killed run leaves whole shards and temporary files, and the next run
writes the shards that are missing. Index, annotations, rejections and manifest follow at the end:
another risk table, or another split, of a finished set writes only these.
"""

import functools
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import pyarrow.compute as pc
from tqdm import tqdm

from clef_jax.data.annotations.join import MetadataTable, RiskTable, join_metadata, join_risk
from clef_jax.data.shards.listing import list_recordings
from clef_jax.data.shards.merge import merge_parts
from clef_jax.data.shards.parts import PARTS, is_finished
from clef_jax.data.shards.plan import (
    WriteError,
    WriteOptions,
    agree_on_plan,
    fingerprint_of,
    plan_of,
)
from clef_jax.data.shards.report import WriteReport
from clef_jax.data.shards.task import ShardTask, write_shard
from clef_jax.files import locked
from clef_jax.processes import WorkerDied, WorkersCannotStart, run_tasks
from clef_jax.stores import require_local

# Writes the shards of tasks, at least one, or raises WriteError.
Engine = Callable[[Sequence[ShardTask]], None]


def write_shards(
    records: str | os.PathLike,
    out: str | os.PathLike,
    *,
    record_list: str | None = None,
    metadata: MetadataTable | None = None,
    risk: RiskTable | None = None,
    validation_fraction: float = 0.05,
    options: WriteOptions | None = None,
    workers: int | None = None,
    progress: bool = True,
    engine: Engine | None = None,
) -> WriteReport:
    """Reads, checks, preprocesses and writes recordings; goes on where an earlier run stopped.

    With more than one worker the caller's main module must be importable (spawn).

    Args:
        records: Folder of recordings of any format.
        out: Folder of the shards.
        record_list: CSV of the records to take, see `list_recordings`.
        metadata: Patients, ages and sexes.
        risk: Risks.
        validation_fraction: Share of the patients held out.
        options: What to keep and how.
        workers: Processes; the number of CPUs when None. The output does not depend on it.
        progress: Whether to show a bar.
        engine: Runs the tasks in place of the worker processes.

    Returns:
        What it did.

    Raises:
        TableError: A table or the records folder does not fit; nothing has been written.
        WriteError: `out` was begun with other records, patients or options or is being written; a
            record could not be read, but perhaps can be later; a worker died; or every record was
            rejected.
        StoreError: `out` is in a store.
        OSError: The disk failed; as after `WriteError`, finished shards are kept.
    """
    if not 0 <= validation_fraction < 1:
        raise WriteError(f"validation_fraction is {validation_fraction}; expected 0 to below 1")
    require_local(out)
    folder, out = os.fspath(records), os.fspath(out)
    options = options or WriteOptions()
    listing = list_recordings(folder, record_list, options.hints)
    rows, matches = _join_tables(listing.records, metadata, risk, folder)
    confine = record_list is not None
    plan = plan_of(rows, options, confine)
    os.makedirs(os.path.join(out, PARTS), exist_ok=True)
    with locked(os.path.join(out, ".lock"), functools.partial(_taken, out)):
        agree_on_plan(out, plan)
        _remove_temporaries(out)
        tasks = _tasks_left(rows, folder, confine, out, options, plan)
        started = time.monotonic()
        if engine is None:
            _write_missing(tasks, out, workers or os.cpu_count() or 1, progress)
        elif tasks:
            engine(tasks)
        seconds = time.monotonic() - started
        manifest, annotations = merge_parts(out, listing, folder, plan, rows, validation_fraction)
    validation = pc.sum(pc.equal(annotations.column("split"), "validation")).as_py()
    return WriteReport(
        records_in=len(rows) + len(listing.rejected),
        recordings=manifest["recordings"],
        windows=manifest["records"],
        rejected=manifest["rejected"],
        notes=manifest["notes"],
        patients=manifest["patients"],
        train=annotations.num_rows - validation,
        validation=validation,
        patients_from_records=manifest["patients_from_records"],
        einthoven_violations=manifest["einthoven_violations"],
        spiky_records=manifest["spiky_records"],
        risk_known=annotations.num_rows - annotations.column("risk").null_count,
        matches=matches,
        records_read=sum(len(task.rows) for task in tasks),
        seconds=seconds,
    )


def _join_tables(
    rows: pd.DataFrame, metadata: MetadataTable | None, risk: RiskTable | None, folder: str
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Returns the records with what the tables say, and how many each table describes."""
    rows, in_metadata = join_metadata(rows, metadata, folder)
    rows, in_risk = join_risk(rows, risk, folder)
    found = (("metadata", metadata, in_metadata), ("risk", risk, in_risk))
    return rows, {name: count for name, table, count in found if table is not None}


def _tasks_left(
    rows: pd.DataFrame,
    folder: str,
    confine: bool,
    out: str,
    options: WriteOptions,
    plan: dict[str, Any],
) -> list[ShardTask]:
    """Returns the tasks of those shards that no earlier run has finished."""
    rows = rows[["record", "file", "patient", "study"]]
    size, fingerprint = plan["options"]["records_per_shard"], fingerprint_of(plan)
    return [
        ShardTask(
            shard=shard,
            rows=rows.iloc[start : start + size],
            records_folder=folder,
            confine=confine,
            out=out,
            options=options,
            plan=fingerprint,
        )
        for shard, start in enumerate(range(0, len(rows), size))
        if not is_finished(out, shard, fingerprint)
    ]


def _write_missing(tasks: Sequence[ShardTask], out: str, workers: int, progress: bool) -> None:
    reading = sum(len(task.rows) for task in tasks)
    with tqdm(total=reading, unit="record", disable=not progress, smoothing=0.05) as bar:
        try:
            run_tasks(write_shard, tasks, min(workers, max(len(tasks), 1)), bar)
        except (WorkerDied, WorkersCannotStart) as error:
            raise WriteError(
                f"{out}: {error}; run the same command again, with fewer --workers: finished "
                "shards are kept"
            ) from error


def _taken(out: str, holder: str) -> WriteError:
    return WriteError(
        f"{out}: another write_shards is writing there ({holder}); wait for it or use another --out"
    )


def _remove_temporaries(out: str) -> None:
    for folder in (out, os.path.join(out, PARTS)):
        for name in os.listdir(folder):
            if name.endswith(".tmp"):
                os.unlink(os.path.join(folder, name))
