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
from tests.cli.test_embed_survives import EMBED_IN_SMALL_PARTS, embedded_in
from tests.embed_runs import write_wfdb
from tests.waiting import children_of, wait_until_gone

pytestmark = pytest.mark.slow
ROOT = pathlib.Path(__file__).resolve().parents[2]
OF_SHARDS, OF_EMBEDDING = 50, 20
PATIENT = 5  # Seconds within which nothing that a killed process started may live.


def killed(command, kills, progress, within):
    """Starts a command again and again, and ends it each time by a signal, without a traceback.

    Every third time it goes by chance, soon after its start; else once there is more than before.
    SIGTERM and SIGINT take turns among the kills, once the run has begun: while Python starts,
    nobody is there to answer.

    Args:
        command: What to start.
        kills: How often.
        progress: What there is, as a number.
        within: Seconds after its start at which it may end by chance.
    """
    rng = np.random.default_rng(0)
    printed = []
    for number in range(kills):
        process = subprocess.Popen(
            command,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
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
    for number in range(120):
        write_wfdb(data, f"r{number:03d}", seconds=40, seed=number)
    (tmp_path / "embed.py").write_text(EMBED_IN_SMALL_PARTS)

    def command(out):
        arguments = ["embed", data, "--weights", weights, "--out", out, "--workers", "2"]
        return [sys.executable, tmp_path / "embed.py", *arguments]

    subprocess.run(command(tmp_path / "e.parquet"), check=True, capture_output=True)
    parts = tmp_path / "killed" / "e.parquet.parts"
    killed(command(out), OF_EMBEDDING, lambda: len(embedded_in(parts)), 4)
    subprocess.run(command(out), check=True, capture_output=True)
    assert pq.read_table(out).equals(pq.read_table(tmp_path / "e.parquet"))
    assert {path.name for path in out.parent.iterdir()} == {"e.parquet", ".e.parquet.lock"}
