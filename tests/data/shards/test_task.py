"""Faults that may pass: they stop a run, and reject nothing."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from clef_jax.data.shards.plan import WriteOptions
from clef_jax.data.shards.store import ShardSet
from tests.shard_records import ecg, rejections, write, write_record

ROOT = pathlib.Path(__file__).resolve().parents[3]


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="reads a file that gives EIO")
def test_a_failing_disk_stops_the_run_and_rejects_nothing(tmp_path):
    records, out = tmp_path / "records", tmp_path / "out"
    for seed, name in enumerate("abcz"):
        write_record(records / name, ecg(seed))
    (records / "b.hea").unlink()
    (records / "b.hea").symlink_to("b.hea")
    header = (records / "z.hea").read_text()
    (records / "z.hea").unlink()
    (records / "z.hea").symlink_to("/proc/self/mem")
    run = [sys.executable, ROOT / "tools/write_shards.py", "--records", records, "--out", out]
    run += ["--records_per_shard=1", "--workers=2"]
    stopped = subprocess.run(run, capture_output=True, text=True, check=False)
    assert stopped.returncode == 1 and "Traceback" not in stopped.stderr
    said = f"write_shards: {records}/z.hea: cannot be read now (Input/output error); try again: "
    assert said + "run the same command again, finished shards are kept" in stopped.stderr
    assert len(list((out / "parts").glob("part-*.parquet"))) == 3
    assert not (out / "rejected.csv").exists() and not (out / "manifest.json").exists()
    assert not list(out.rglob("*.tmp"))

    (records / "z.hea").unlink()
    (records / "z.hea").write_text(header)
    report = write(records, out, options=WriteOptions(records_per_shard=1))
    assert report.records_read == 1 and list(ShardSet(out).record) == ["a", "c", "z"]
    assert "symbolic links" in rejections(out)["b"]["reason"]


OUT_OF_MEMORY = """
import re, resource, sys
from clef_jax.data.shards.plan import WriteError, WriteOptions
from clef_jax.data.shards.write import write_shards

good, both, out = sys.argv[1:]
options = WriteOptions(records_per_shard=1)
write_shards(good, out + "_good", options=options, workers=1, progress=False)
used = int(re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read()).group(1)) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, resource.RLIM_INFINITY))
try:
    write_shards(both, out, options=options, workers=1, progress=False)
except WriteError as error:
    sys.exit(str(error))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory through /proc")
def test_too_little_memory_stops_the_run_and_rejects_nothing(tmp_path):
    write_record(tmp_path / "good/a", ecg(0))
    write_record(tmp_path / "both/a", ecg(0))
    # 11 s of 12 leads at 500 kHz are half a gigabyte of float64.
    write_record(tmp_path / "both/b", np.zeros((12, 0)), fs=500_000)
    header = (tmp_path / "both/b.hea").read_text()
    (tmp_path / "both/b.hea").write_text(header.replace("500000 0", "500000 5500000"))
    os.truncate(tmp_path / "both/b.dat", 12 * 2 * 5_500_000)
    done = subprocess.run(
        [sys.executable, "-c", OUT_OF_MEMORY, tmp_path / "good", tmp_path / "both",
         tmp_path / "out"], capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert f"{tmp_path}/both/b: not enough memory" in done.stderr and "--workers" in done.stderr
    assert [p.name for p in (tmp_path / "out/parts").glob("*0.*")] and not list(
        (tmp_path / "out").glob("*1.array_record")
    )
