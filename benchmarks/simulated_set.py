"""Sets of shards of any size in MIMIC-IV-ECG's layout: its tables, and shards without a recording.

`write_shards` plans and merges them as it does any others; in place of its workers, one of the
functions here leaves each shard's files.
"""

import functools
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from clef_jax.data.shards.format import ShardWriter, shard_file
from clef_jax.data.shards.parts import write_part
from clef_jax.data.shards.task import ShardTask
from clef_jax.data.signals.leads import STANDARD_LEADS
from clef_jax.processes import run_tasks

MIMIC_RECORDS, MIMIC_PATIENTS = 800_035, 161_352


def write_tables(folder: pathlib.Path, records: int, patients: int) -> None:
    """Writes `record_list.csv`, with MIMIC-IV-ECG's columns, and `risk.parquet`, a row a study.

    Args:
        folder: Where to.
        records: Number of recordings.
        patients: Number of patients; each has one recording at least, some have hundreds.
    """
    rng = np.random.default_rng(0)
    share = rng.lognormal(sigma=1.2, size=patients)
    more = rng.choice(patients, records - patients, p=share / share.sum())
    patient = 10_000_000 + np.sort(np.r_[np.arange(patients), more])
    study = 40_000_000 + rng.permutation(records)
    table = pd.DataFrame({"subject_id": patient, "study_id": study, "file_name": study})
    table["ecg_time"] = "2180-07-23 08:44:00"
    words = table[["subject_id", "study_id"]].astype(str)
    table["path"] = (
        "files/p" + words["subject_id"].str[:4] + "/p" + words["subject_id"]
        + "/s" + words["study_id"] + "/" + words["study_id"]
    )  # fmt: skip
    table.to_csv(folder / "record_list.csv", index=False)
    risks = table[["subject_id", "study_id"]].assign(
        risk=rng.uniform(0, 60, records), completeness=rng.integers(0, 8, records) / 7
    )
    risks.sample(frac=1, random_state=0).to_parquet(folder / "risk.parquet")


def leave_shards(
    leave: Callable[[ShardTask, Callable[[], None]], None], tasks: Sequence[ShardTask]
) -> None:
    """An engine of `write_shards` that calls `leave`, in other processes."""
    with tqdm(total=sum(len(task.rows) for task in tasks), unit="record") as bar:
        run_tasks(leave, tasks, max(os.cpu_count() or 1, 2), bar)


def leave_hollow(task: ShardTask, advance: Callable[[], None]) -> None:
    """Leaves what belongs to a shard, and in the place of the shard a file of holes."""
    path = os.path.join(task.out, shard_file(task.shard))
    pathlib.Path(path).touch()
    os.truncate(path, _entry_bytes(task) * len(STANDARD_LEADS) * len(task.rows))
    _leave_part(task, _unverified(path, task.shard), advance)


def leave_links(shards: Sequence[str], task: ShardTask, advance: Callable[[], None]) -> None:
    """Leaves what belongs to a shard, and in its place a link to one of those that there are.

    Args:
        shards: Of `write_noise`, each of as many records as a task may have.
        task: The shard's.
        advance: Called after each record.
    """
    path = os.path.join(task.out, shard_file(task.shard))
    os.link(shards[task.shard % len(shards)], path)
    _leave_part(task, _unverified(path, task.shard), advance)


def write_noise(path: str, records: int, samples: int, *, seed: int) -> None:
    """Writes a shard of noise."""
    rng = np.random.default_rng(seed)
    writer = ShardWriter(path)
    for _ in range(records):
        writer.write(rng.integers(-32767, 32768, (len(STANDARD_LEADS), samples), np.int16))
    writer.close()


def _unverified(path: str, shard: int) -> dict[str, Any]:
    """Returns a shard's line in the manifest, with a checksum that nobody asks for."""
    return {"file": shard_file(shard), "bytes": os.path.getsize(path), "sha256": "0" * 64}


def _entry_bytes(task: ShardTask) -> int:
    return 2 * task.options.spec.samples


def _leave_part(task: ShardTask, facts: dict[str, Any], advance: Callable[[], None]) -> None:
    rng = np.random.default_rng([task.shard, 1])
    scales = rng.uniform(1e-5, 1e-4, (len(task.rows), len(STANDARD_LEADS))).tolist()
    rows = []
    for number, row in enumerate(task.rows.itertuples(index=False)):
        rows.append({
            "record": row.record, "patient": row.patient, "study": row.study,
            "leads": list(STANDARD_LEADS), "scale_mv": scales[number], "shard": task.shard,
            "first_entry": number * len(STANDARD_LEADS), "start_s": 0.0, "file": row.file,
            "content": rng.bytes(16), "age": None, "sex": None,
        })  # fmt: skip
        advance()
    counts = dict.fromkeys(("patients_from_records", "einthoven_violations", "spiky_records"), 0)
    write_part(task.out, task.shard, rows, [], [], facts | {"plan": task.plan} | counts)


HOLLOW = functools.partial(leave_shards, leave_hollow)
