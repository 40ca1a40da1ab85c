"""One run killed again and again ends as one that nobody disturbed."""

import hashlib
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest

from clef_jax.data.demo import cohort
from tests.cli.test_embed_survives import EMBED_IN_SMALL_PARTS
from tests.embed_runs import write_wfdb
from tests.train.runs import assert_same_result, finish, start
from tests.waiting import children_of, wait_until_gone

pytestmark = pytest.mark.slow
ROOT = pathlib.Path(__file__).resolve().parents[2]
OF_TRAINING, OF_SHARDS, OF_EMBEDDING = 50, 50, 20
STEPS = 400
PATIENT = 5  # Seconds within which nothing that a killed process started may live.


def killed(command, kills, progress, within, environment=()):
    """Starts a command again and again, and ends it each time by a signal, without a traceback.

    Every third time it goes by chance, soon after its start; else once there is more than before.
    SIGTERM and SIGINT take turns among the kills, once the run has begun: while Python starts,
    nobody is there to answer.

    Args:
        command: What to start.
        kills: How often.
        progress: What there is, as a number.
        within: Seconds after its start at which it may end by chance.
        environment: Variables that the command gets besides those of this process.
    """
    rng = np.random.default_rng(0)
    printed = []
    for number in range(kills):
        process = subprocess.Popen(
            command,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | dict(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        how = {3: signal.SIGTERM, 7: signal.SIGINT}.get(number % 10, signal.SIGKILL)
        if number % 3 == 2 and how is signal.SIGKILL:
            time.sleep(rng.uniform(0, within))
        else:
            before = progress()
            while progress() == before and process.poll() is None:
                time.sleep(0.005)
        assert process.poll() is None, (
            f"it ended too early, at kill {number}:\n{process.stdout.read()}"
        )
        started = children_of(process)
        process.send_signal(how)
        printed.append(process.communicate(timeout=120)[0])
        wait_until_gone(started, PATIENT)
    assert not any("Traceback" in text for text in printed), printed


def test_a_training_run(shards_folder, tmp_path):
    whole, other = tmp_path / "whole", tmp_path / "killed"
    # Programs compiled once are read by all: to compile is most of a start.
    environment = {
        "JAX_NUM_CPU_DEVICES": "4",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "programs"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    often = {"checkpoint_steps": 2, "evaluators__validation": 20, "evaluators__probe": 100}
    settings = {"steps": STEPS, "num_workers": 1, **often}
    undisturbed = start(shards_folder, whole, environment=environment, **settings)
    finish(undisturbed)
    command = [part.replace(str(whole), str(other)) for part in undisturbed.args]

    def newest():
        found = [int(path.name) for path in other.glob("checkpoints/*") if path.name.isdigit()]
        return max(found, default=0)

    killed(command, OF_TRAINING, newest, 6, environment)
    finish(start(shards_folder, other, environment=environment, **settings))
    assert_same_result(other, whole, step=STEPS)
    assert not [path for path in other.rglob("*") if "tmp" in path.name]


def sums(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".lock")
    }


def test_a_run_that_writes_shards(tmp_path):
    cohort.write_simulated_cohort(tmp_path / "cohort", 200, seed=0)

    def command(out, workers):
        tool = ROOT / "tools" / "write_shards.py"
        options = ("--records_per_shard=1", f"--workers={workers}", f"--out={out}")
        return [sys.executable, tool, f"--records={tmp_path / 'cohort'}", *options]

    subprocess.run(command(tmp_path / "whole", 1), check=True, capture_output=True)
    other = tmp_path / "killed"
    killed(command(other, 2), OF_SHARDS, lambda: len(list(other.glob("parts/*.parquet"))), 1.5)
    subprocess.run(command(other, 2), check=True, capture_output=True)
    assert sums(other) == sums(tmp_path / "whole")


def test_a_run_that_embeds(weights, tmp_path):
    data, out = tmp_path / "data", tmp_path / "killed" / "e.parquet"
    for number in range(400):
        write_wfdb(data, f"r{number:03d}", seconds=40, seed=number)
    (tmp_path / "embed.py").write_text(EMBED_IN_SMALL_PARTS)

    def command(out):
        arguments = ["embed", data, "--weights", weights, "--out", out, "--workers", "2"]
        return [sys.executable, tmp_path / "embed.py", *arguments]

    subprocess.run(command(tmp_path / "e.parquet"), check=True, capture_output=True)
    parts = tmp_path / "killed" / "e.parquet.parts"
    killed(command(out), OF_EMBEDDING, lambda: len(list(parts.glob("part-*.parquet"))), 4)
    subprocess.run(command(out), check=True, capture_output=True)
    assert pq.read_table(out).equals(pq.read_table(tmp_path / "e.parquet"))
    assert {path.name for path in out.parent.iterdir()} == {"e.parquet", ".e.parquet.lock"}
