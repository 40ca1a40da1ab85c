"""From recordings to a finished folder of shards, in parallel, resumable at any point.

The plan (which records, joined with their patients and risks, in which shard) depends on the input
alone. One shard's slice of it is one task. A killed run leaves whole shards and temporary files,
and the next run writes the shards that are missing. Index, rejections and manifest follow at the
end.
"""

import dataclasses
import functools
import os
import time

from tqdm import tqdm

from clef_jax.data.annotations.join import MetadataTable, RiskTable, join_metadata, join_risk
from clef_jax.data.recordings.listing import list_recordings
from clef_jax.data.shards.merge import merge_parts
from clef_jax.data.shards.plan import (
    IngestError,
    IngestOptions,
    agree_on_plan,
    fingerprint_of,
    plan_of,
)
from clef_jax.data.shards.task import (
    PARTS,
    ShardTask,
    is_finished,
    write_shard,
)
from clef_jax.files import locked
from clef_jax.processes import WorkerDied, WorkersCannotStart, run_tasks


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a run did, for the terminal."""

    records_in: int
    written: int
    rejected: dict[str, int]
    patients: int
    train: int
    validation: int
    patients_from_records: int
    einthoven_violations: int
    spiky_records: int
    risk_known: int
    matches: dict[str, int]
    records_read: int
    seconds: float

    def __str__(self) -> str:
        lines = [
            f"records in           {self.records_in:>9,}",
            f"  written            {self.written:>9,}",
        ]
        lines.append(f"  rejected           {sum(self.rejected.values()):>9,}")
        lines += [f"    {count:>9,}  {why}" for why, count in sorted(self.rejected.items())]
        lines.append(f"patients             {self.patients:>9,}")
        lines.append(f"train / validation   {self.train:>9,} / {self.validation:,} records")
        lines += [
            f"{table + ' rows found':<20} {count:>9,} of {self.records_in:,} records"
            for table, count in self.matches.items()
        ]
        lines.append(f"risk known           {self.risk_known:>9,} of {self.written:,} written")
        if self.patients_from_records:
            lines.append(
                f"{self.patients_from_records:,} records name no patient in a table or header: "
                "each stands in for one of its own.\nIf patients were recorded more than once, "
                "give --metadata with their ids, or the split may put one on both sides."
            )
        if self.einthoven_violations:
            lines.append(
                f"{self.einthoven_violations:,} records contradict III = II - I: their gains may "
                "be wrong lead by lead (in LUDB they are: --adu_per_mv=1000)."
            )
        if self.spiky_records:
            lines.append(
                f"{self.spiky_records:,} records have spikes that no heart makes; those beyond "
                "15 mV were bridged like missing samples."
            )
        if self.records_read:
            speed = self.records_read / max(self.seconds, 1e-9)
            lines.append(
                f"{self.records_read:,} read now in {self.seconds:.1f} s: {speed:.0f} records/s"
            )
        else:
            lines.append("every shard was finished already")
        return "\n".join(lines)


def write_shards(
    records: str | os.PathLike,
    out: str | os.PathLike,
    *,
    record_list: str | None = None,
    metadata: MetadataTable | None = None,
    risk: RiskTable | None = None,
    options: IngestOptions | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> Summary:
    """Reads, checks, preprocesses and writes recordings; goes on where an earlier run stopped.

    With more than one worker the caller's main module must be importable (spawn).

    Args:
        records: Folder of WFDB records.
        out: Folder of the shards.
        record_list: CSV of the records to take, see `tables.list_recordings`.
        metadata: Patients, ages and sexes.
        risk: Risks.
        options: What to keep and how.
        workers: Processes; the number of CPUs when None. The output does not depend on it.
        progress: Whether to show a bar.

    Returns:
        Counts for the terminal.

    Raises:
        TableError: A table or the records folder does not fit; nothing has been written.
        IngestError: `out` was begun with other input or is being written; a record could not be
            read, but perhaps can be later; a worker died; or every record was rejected.
        OSError: The disk failed; as after `IngestError`, finished shards are kept.
    """
    folder, out = os.fspath(records), os.fspath(out)
    options = options or IngestOptions()
    plan_rows, duplicates = list_recordings(folder, record_list)
    matches = {}
    plan_rows, found = join_metadata(plan_rows, metadata, folder)
    if metadata is not None:
        matches["metadata"] = found
    plan_rows, found = join_risk(plan_rows, risk, folder)
    if risk is not None:
        matches["risk"] = found
    plan = plan_of(plan_rows, options, confine=record_list is not None)
    size = plan["options"]["records_per_shard"]
    n_shards = -(-len(plan_rows) // size)
    os.makedirs(os.path.join(out, PARTS), exist_ok=True)
    with locked(os.path.join(out, ".lock"), functools.partial(_taken, out)):
        agree_on_plan(out, plan)
        _remove_temporaries(out)
        fingerprint = fingerprint_of(plan)
        todo = [s for s in range(n_shards) if not is_finished(out, s, fingerprint)]
        slices = {shard: slice(shard * size, (shard + 1) * size) for shard in todo}
        reading = sum(len(range(*part.indices(len(plan_rows)))) for part in slices.values())
        tasks = (
            ShardTask(
                shard=shard,
                rows=plan_rows.iloc[part],
                records_folder=folder,
                confine=record_list is not None,
                out=out,
                options=options,
                plan=fingerprint,
            )
            for shard, part in slices.items()
        )
        started = time.monotonic()
        with tqdm(total=reading, unit="record", disable=not progress, smoothing=0.05) as bar:
            workers = min(workers or os.cpu_count() or 1, max(len(todo), 1))
            try:
                run_tasks(write_shard, tasks, workers, bar)
            except (WorkerDied, WorkersCannotStart) as error:
                raise IngestError(
                    f"{out}: {error}; run the same command again, with fewer --workers: finished "
                    "shards are kept"
                ) from error
        seconds = time.monotonic() - started
        manifest = merge_parts(out, n_shards, duplicates, folder, plan)
    return Summary(
        records_in=len(plan_rows) + len(duplicates),
        written=manifest["records"],
        matches=matches,
        records_read=reading,
        seconds=seconds,
        **{
            key: manifest[key]
            for key in (
                "rejected",
                "patients",
                "train",
                "validation",
                "patients_from_records",
                "einthoven_violations",
                "spiky_records",
                "risk_known",
            )
        },
    )


def _taken(out: str, holder: str) -> IngestError:
    return IngestError(
        f"{out}: another write_shards is writing there ({holder}); wait for it or use another --out"
    )


def _remove_temporaries(out: str) -> None:
    for folder in (out, os.path.join(out, PARTS)):
        for name in os.listdir(folder):
            if name.endswith(".tmp"):
                os.unlink(os.path.join(folder, name))
