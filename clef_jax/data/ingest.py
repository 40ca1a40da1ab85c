"""From recordings to a finished folder of shards, in parallel, resumable at any point.

The plan (which records, joined with their patients and risks, in which shard) depends on the input
alone. One shard's slice of it is one task. A finished shard is its data file, its rejections and,
renamed into place last, its part of the index: a killed run leaves whole shards and temporary
files, and the next run writes the shards that are missing. Index, rejections and manifest follow at
the end.
"""

import contextlib
import csv
import dataclasses
import fcntl
import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from clef_jax.data import shards, tables
from clef_jax.data.leads import STANDARD_LEADS
from clef_jax.data.parallel_tasks import WorkerDied, run_tasks
from clef_jax.data.prepare import PreparedRecord, Rejection, prepare_record
from clef_jax.data.readers import RecordingError
from clef_jax.data.signals import PREPROCESSING, QUALITY, QualityLimits

PLAN = "plan.json"
PARTS = "parts"

_MAX_RECORDS_PER_SHARD = 4096  # twelve leads of 10 kB each: half a gigabyte
_MIN_RECORDS_PER_SHARD = 64
_SHARDS_OF_A_SMALL_SET = 16
_PART_FACTS = b"clef_jax"
_REJECTED_HEADER = ("record", "file", "reason")


class IngestError(ValueError):
    """Shards that cannot be written; the message names the file, the fault and the remedy."""


@dataclasses.dataclass(frozen=True)
class IngestOptions:
    """What changes the bytes of the shards.

    Attributes:
      min_leads: Good standard leads a record needs, of 12; leads with faults are dropped.
      validation_fraction: Share of the patients held out.
      records_per_shard: Records planned for each shard. None: 16 shards, but no fewer than 64
        records and no more than 4096 (half a gigabyte) in each.
      adu_per_mv: Digital units per mV in place of the headers' gains, see `read_recording`.
      quality: Thresholds of the quality checks.
    """

    min_leads: int = 12
    validation_fraction: float = 0.05
    records_per_shard: int | None = None
    adu_per_mv: float | None = None
    quality: QualityLimits = QUALITY

    def __post_init__(self):
        if not 1 <= self.min_leads <= len(STANDARD_LEADS):
            raise IngestError(f"min_leads is {self.min_leads}; expected 1 to 12")
        if not 0 <= self.validation_fraction < 1:
            raise IngestError(
                f"validation_fraction is {self.validation_fraction}; expected 0 or more, below 1"
            )
        if self.records_per_shard is not None and self.records_per_shard < 1:
            raise IngestError(f"records_per_shard is {self.records_per_shard}; expected 1 or more")
        if self.adu_per_mv is not None and not self.adu_per_mv > 0:
            raise IngestError(f"adu_per_mv is {self.adu_per_mv}; expected more than 0")


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
        if self.records_read:
            speed = self.records_read / max(self.seconds, 1e-9)
            lines.append(
                f"{self.records_read:,} read now in {self.seconds:.1f} s: {speed:.0f} records/s"
            )
        else:
            lines.append("every shard was finished already")
        return "\n".join(lines)


def _file_of(record: str, folder: str) -> str:
    return os.path.join(folder, *record.split("/"))


@dataclasses.dataclass(frozen=True)
class _Task:
    shard: int
    rows: pd.DataFrame
    records_folder: str
    confine: bool
    out: str
    options: IngestOptions
    plan: str


def is_validation_patient(patient: str, fraction: float) -> bool:
    """Says whether a patient is held out, by a hash of the identifier alone: stable for ever."""
    digest = hashlib.sha256(patient.encode()).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2**64


def _part_file(out: str, shard: int) -> str:
    return os.path.join(out, PARTS, f"part-{shard:05d}.parquet")


def _rejections_file(out: str, shard: int) -> str:
    return os.path.join(out, PARTS, f"rejected-{shard:05d}.csv")


@contextlib.contextmanager
def _replacing(path: str) -> Iterator[str]:
    """Gives a temporary name; renames it to `path` once its content is safely on the disk."""
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        yield temporary
        with open(temporary, "rb") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _write_rejections(path: str, rows: list[tuple[str, str, str]]) -> None:
    with (
        _replacing(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.writer(stream)
        writer.writerow(_REJECTED_HEADER)
        writer.writerows(rows)


def _write_json(path: str, content: Any) -> None:
    with _replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as stream:
        json.dump(content, stream, indent=1, sort_keys=True)
        stream.write("\n")


def _index_row(task: _Task, row, prepared: PreparedRecord, first_entry: int) -> dict[str, Any]:
    header = prepared.header
    patient = row.patient if isinstance(row.patient, str) else header.patient or row.record
    held_out = is_validation_patient(patient, task.options.validation_fraction)
    return {
        "record": row.record,
        "patient": patient,
        "study": row.study if isinstance(row.study, str) else None,
        "leads": list(prepared.leads),
        "scale_mv": prepared.scale_mv.tolist(),
        "shard": task.shard,
        "first_entry": first_entry,
        "risk": None if np.isnan(row.risk) else float(row.risk),
        "completeness": None if np.isnan(row.completeness) else float(row.completeness),
        "age": header.age if np.isnan(row.age) else float(row.age),
        "sex": row.sex if isinstance(row.sex, str) else header.sex,
        "split": "validation" if held_out else "train",
        "content": hashlib.blake2b(prepared.steps, digest_size=16).digest(),
    }


_PART_SCHEMA = shards.INDEX_SCHEMA.append(pa.field("content", pa.binary(16)))


def _write_shard(task: _Task, advance: Callable[[], None]) -> None:
    """Reads one slice of the plan and leaves its three files, data first and part last."""
    rows, rejected = [], []
    own_patients = violations = 0
    path = os.path.join(task.out, shards.shard_file(task.shard))
    with _replacing(path) as temporary:
        writer = shards.ShardWriter(temporary)
        for row in task.rows.itertuples(index=False):
            file = _file_of(row.record, task.records_folder)
            try:
                prepared = prepare_record(
                    file,
                    confine_to=task.records_folder if task.confine else None,
                    min_leads=task.options.min_leads,
                    adu_per_mv=task.options.adu_per_mv,
                    quality=task.options.quality,
                )
            except Rejection as why:
                rejected.append((row.record, file, str(why)))
            except RecordingError as error:
                rejected.append((row.record, file, f"unreadable: {error}"))
            except Exception as error:
                # Among 800,000 files some are broken in ways nobody foresaw: report, go on.
                rejected.append((row.record, file, f"failed: {type(error).__name__}: {error}"))
            else:
                first = writer.write(prepared.steps)
                rows.append(_index_row(task, row, prepared, first))
                own_patients += not isinstance(row.patient, str) and not prepared.header.patient
                violations += prepared.contradicts_einthoven
            advance()
        writer.close()
        facts = {
            "plan": task.plan,
            "file": shards.shard_file(task.shard),
            "bytes": os.path.getsize(temporary),
            "sha256": shards.file_sha256(temporary),
            "patients_from_records": own_patients,
            "einthoven_violations": violations,
        }
    _write_rejections(_rejections_file(task.out, task.shard), rejected)
    part = pa.Table.from_pylist(rows, schema=_PART_SCHEMA)
    part = part.replace_schema_metadata({_PART_FACTS: json.dumps(facts)})
    with _replacing(_part_file(task.out, task.shard)) as temporary:
        pq.write_table(part, temporary)


def _part_facts(out: str, shard: int) -> dict[str, Any]:
    return json.loads(pq.read_schema(_part_file(out, shard)).metadata[_PART_FACTS])


def _is_finished(out: str, shard: int, plan: str) -> bool:
    try:
        facts = _part_facts(out, shard)
        size = os.path.getsize(os.path.join(out, facts["file"]))
    except (OSError, pa.ArrowInvalid):
        return False
    return (
        facts["plan"] == plan
        and size == facts["bytes"]
        and os.path.isfile(_rejections_file(out, shard))
    )


def _digest(*columns: Any) -> str:
    digest = hashlib.sha256()
    for column in columns:
        if column.dtype == np.float32:
            digest.update(column.to_numpy().tobytes())
        else:
            digest.update("\n".join("" if pd.isna(v) else str(v) for v in column).encode())
        digest.update(b"\0")
    return digest.hexdigest()


def _records_per_shard(n: int, options: IngestOptions) -> int:
    if options.records_per_shard is not None:
        return options.records_per_shard
    share = -(-n // _SHARDS_OF_A_SMALL_SET)
    return min(max(share, _MIN_RECORDS_PER_SHARD), _MAX_RECORDS_PER_SHARD)


def _plan_of(records: pd.DataFrame, options: IngestOptions, confine: bool) -> dict[str, Any]:
    return {
        "format_version": shards.FORMAT_VERSION,
        "records": len(records),
        "record_names": _digest(records["record"], records["study"]),
        "patients": _digest(records["patient"]),
        "ages_and_sexes": _digest(records["age"], records["sex"]),
        "risks": _digest(records["risk"], records["completeness"]),
        "from_record_list": confine,
        "options": dataclasses.asdict(options)
        | {"records_per_shard": _records_per_shard(len(records), options)},
        "preprocessing": PREPROCESSING.to_dict(),
    }


def _agree_on_plan(out: str, plan: dict[str, Any]) -> None:
    path = os.path.join(out, PLAN)
    try:
        with open(path, encoding="utf-8") as stream:
            earlier = json.load(stream)
    except FileNotFoundError:
        _write_json(path, plan)
        return
    flat, earlier_flat = _flat(plan), _flat(earlier)
    differing = sorted(k for k in flat | earlier_flat if flat.get(k) != earlier_flat.get(k))
    if differing:
        raise IngestError(
            f"{path}: {out} was begun with other input; different now: {', '.join(differing)}; "
            "use another --out, or delete this folder to begin anew"
        )


def _flat(plan: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in plan.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


@contextlib.contextmanager
def _only_writer(out: str) -> Iterator[None]:
    with open(os.path.join(out, ".lock"), "w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise IngestError(
                f"{out}: another write_shards is writing there; wait for it or use another --out"
            ) from None
        yield


def _remove_temporaries(out: str) -> None:
    for folder in (out, os.path.join(out, PARTS)):
        for name in os.listdir(folder):
            if name.endswith(".tmp"):
                os.unlink(os.path.join(folder, name))


def _merge(
    out: str,
    n_shards: int,
    duplicates: list[tuple[str, str]],
    folder: str,
    plan: dict[str, Any],
) -> dict[str, Any]:
    """Writes index, rejections and, last, the manifest; returns the manifest."""
    rejected = [(name, _file_of(name, folder), why) for name, why in duplicates]
    facts = [_part_facts(out, shard) for shard in range(n_shards)]
    index = pa.concat_tables(
        [
            pq.read_table(_part_file(out, shard)).replace_schema_metadata()
            for shard in range(n_shards)
        ]
    )
    for shard in range(n_shards):
        with open(_rejections_file(out, shard), newline="", encoding="utf-8") as stream:
            rejected += [tuple(row) for row in list(csv.reader(stream))[1:]]
    content = index.column("content").to_pandas()
    again = content.duplicated().to_numpy()
    if again.any():
        names = index.column("record").to_pandas()
        first = names.groupby(content).first()
        for name, value in zip(names[again], content[again], strict=True):
            reason = f"duplicate samples: identical to {first[value]}"
            rejected.append((name, _file_of(name, folder), reason))
    index = index.filter(pa.array(~again)).drop_columns("content")
    if not index.num_rows:
        _write_rejections(os.path.join(out, shards.REJECTED), rejected)
        raise IngestError(
            f"{os.path.join(out, shards.REJECTED)}: every record was rejected; see there why"
        )
    index_path = os.path.join(out, shards.INDEX)
    with _replacing(index_path) as temporary:
        pq.write_table(index, temporary)
    _write_rejections(os.path.join(out, shards.REJECTED), rejected)
    patients = pc.count_distinct(index.column("patient")).as_py()
    validation = pc.sum(pc.equal(index.column("split"), "validation")).as_py()
    manifest = {
        "format_version": shards.FORMAT_VERSION,
        "preprocessing": PREPROCESSING.to_dict(),
        "plan": plan,
        "records": index.num_rows,
        "patients": patients,
        "train": index.num_rows - validation,
        "validation": validation,
        "rejected": dict(Counter(reason.split(":")[0] for _, _, reason in rejected)),
        "patients_from_records": sum(f["patients_from_records"] for f in facts),
        "einthoven_violations": sum(f["einthoven_violations"] for f in facts),
        "risk_known": index.num_rows - index.column("risk").null_count,
        "files": [{key: f[key] for key in ("file", "bytes", "sha256")} for f in facts]
        + [
            {
                "file": shards.INDEX,
                "bytes": os.path.getsize(index_path),
                "sha256": shards.file_sha256(index_path),
            }
        ],
    }
    _write_json(os.path.join(out, shards.MANIFEST), manifest)
    return manifest


def write_shards(
    records: str | os.PathLike,
    out: str | os.PathLike,
    *,
    record_list: str | None = None,
    metadata: tables.MetadataTable | None = None,
    risk: tables.RiskTable | None = None,
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

    Raises:
      TableError: A table or the records folder does not fit; nothing has been written.
      IngestError: `out` was begun with other input or is being written; or every record was
        rejected.
    """
    folder, out = os.fspath(records), os.fspath(out)
    options = options or IngestOptions()
    plan_rows, duplicates = tables.list_recordings(folder, record_list)
    matches = {}
    plan_rows, found = tables.join_metadata(plan_rows, metadata, folder)
    if metadata is not None:
        matches["metadata"] = found
    plan_rows, found = tables.join_risk(plan_rows, risk, folder)
    if risk is not None:
        matches["risk"] = found
    plan = _plan_of(plan_rows, options, confine=record_list is not None)
    size = plan["options"]["records_per_shard"]
    n_shards = -(-len(plan_rows) // size)
    os.makedirs(os.path.join(out, PARTS), exist_ok=True)
    with _only_writer(out):
        _agree_on_plan(out, plan)
        _remove_temporaries(out)
        fingerprint = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()
        todo = [s for s in range(n_shards) if not _is_finished(out, s, fingerprint)]
        slices = {shard: slice(shard * size, (shard + 1) * size) for shard in todo}
        reading = sum(len(range(*part.indices(len(plan_rows)))) for part in slices.values())
        tasks = (
            _Task(
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
                run_tasks(_write_shard, tasks, workers, bar)
            except WorkerDied as error:
                raise IngestError(
                    f"{out}: {error}; run the same command again, with fewer --workers: finished "
                    "shards are kept"
                ) from error
        seconds = time.monotonic() - started
        manifest = _merge(out, n_shards, duplicates, folder, plan)
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
                "risk_known",
            )
        },
    )
