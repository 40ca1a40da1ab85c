"""A long run holds no more memory, files and threads at its end than once it has warmed up."""

import dataclasses
import time

import numpy as np
import psutil
import pytest

from clef_jax.data.annotations.join import MetadataTable
from clef_jax.data.demo import cohort
from clef_jax.data.shards.plan import WriteOptions
from clef_jax.data.shards.write import write_shards
from clef_jax.data.signals.spec import CLEF_V2
from clef_jax.train.metrics import read_metrics
from tests.faults.process_tree import taken_by
from tests.train.runs import finish, start

pytestmark = pytest.mark.slow
STEPS = 20_000
# Until then programs are compiled, shards are opened, and pools have their threads.
WARM_STEPS = 4_000
SHORT = dataclasses.replace(CLEF_V2, fs=100.0, samples=200)


@pytest.fixture
def shards(tmp_path):
    """Windows of two seconds, so that a step takes milliseconds."""
    cohort.write_simulated_cohort(tmp_path / "cohort", 120, seed=0)
    write_shards(
        tmp_path / "cohort",
        tmp_path / "shards",
        record_list=str(tmp_path / "cohort" / "record_list.csv"),
        metadata=MetadataTable(str(tmp_path / "cohort" / "metadata.csv")),
        validation_fraction=0.3,
        options=WriteOptions(spec=SHORT, records_per_shard=16),
        workers=1,
        progress=False,
    )
    return tmp_path / "shards"


def test_a_run_of_many_steps(shards, tmp_path):
    workdir = tmp_path / "run"
    run = start(
        shards,
        workdir,
        devices=1,
        steps=STEPS,
        num_workers=2,
        log_steps=20,
        checkpoint_steps=1000,
        evaluators__validation=100,
        evaluators__probe=100,
    )
    seconds, taken = [], []
    tree = psutil.Process(run.pid)
    try:
        while run.poll() is None:
            time.sleep(1)
            if steps_logged(workdir) < WARM_STEPS:
                continue
            try:
                taken.append(taken_by(tree))
            except (psutil.NoSuchProcess, ProcessLookupError, FileNotFoundError):
                continue  # One ended while it was looked at.
            seconds.append(time.monotonic())
    finally:
        run.kill()
    finish(run)
    memory_mb, files, threads = np.array(taken[:-5]).T  # The last are of a run that ends.
    slope, _ = np.polyfit(np.array(seconds[:-5]) / 60, memory_mb, 1)
    assert slope < 1, f"{slope:.2f} MB a minute, to {memory_mb[-1]:.0f} MB"
    # Each evaluation and save opens and starts some; one that stayed of each would make hundreds.
    for counts in (files, threads):
        first, last = (np.median(part) for part in np.array_split(counts, 4)[::3])
        assert last - first < 16, counts.tolist()


def steps_logged(workdir):
    path = workdir / "metrics.jsonl"
    rows = read_metrics(path) if path.exists() else []
    return rows[-1]["step"] if rows else 0
