"""Shards by Apache Beam's DirectRunner, beside those of local processes."""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from clef_jax.data.shards.plan import WriteOptions
from tests.shard_records import contents, ecg, rejections, write, write_record

pytest.importorskip("apache_beam", reason="needs Apache Beam: pip install 'clef-jax[beam]'")

ROOT = pathlib.Path(__file__).resolve().parents[3]


def run(*arguments, modules=ROOT):
    tool = [sys.executable, ROOT / "tools/write_shards.py", "--engine=beam", *arguments]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{modules}"}
    return subprocess.run(tool, capture_output=True, text=True, check=False, env=environment)


def sums(folder):
    return {name: hashlib.sha256(data).hexdigest() for name, data in contents(folder).items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", ["", "--direct_num_workers=2 --direct_running_mode=multi_processing"]
)
def test_every_file_of_real_recordings_is_the_same(real_data, tmp_path, options):
    records = tmp_path / "records"
    shutil.copytree(real_data / "ptb-xl" / "records500", records)
    one, other = sorted(records.rglob("*.dat"))[:2]
    os.truncate(one, 1000)
    other.unlink()
    (records / "notes.docx").write_text("not a recording")
    table = real_data / "ptb-xl" / "ptbxl_database.csv"
    common = [f"--records={records}", f"--metadata={table}", "--records_per_shard=40"]
    done = run(*common, "--out", tmp_path / "beam", f"--beam_options={options}")
    assert done.returncode == 0, done.stderr
    tool = [sys.executable, ROOT / "tools/write_shards.py", *common, "--workers=2"]
    subprocess.run([*tool, "--out", tmp_path / "local"], check=True, capture_output=True)
    found = sums(tmp_path / "beam")
    assert found == sums(tmp_path / "local")
    assert sum(name.startswith("leads-") for name in found) == 9
    rejected = rejections(tmp_path / "beam")
    assert {one.stem, other.stem} <= {record.rsplit("/", 1)[-1] for record in rejected}


def test_it_goes_on_where_local_processes_stopped_and_they_where_it_did(mimic, tmp_path):
    listed = str(mimic / "record_list.csv")
    options = WriteOptions(records_per_shard=5)
    write(mimic, tmp_path / "whole", record_list=listed, options=options)
    out = tmp_path / "out"
    shutil.copytree(tmp_path / "whole", out)
    for missing in ("manifest.json", "index.parquet", "parts/part-00001.parquet",
                    "leads-00004.array_record"):  # fmt: skip
        (out / missing).unlink()
    (out / "parts" / "rows.parquet.tmp").write_text("left by a killed run")
    kept = {path: path.stat().st_mtime_ns for path in out.glob("leads-0000[023].array_record")}
    assert len(kept) == 3
    common = [f"--records={mimic}", f"--record_list={listed}", "--records_per_shard=5"]
    done = run(*common, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "9 read now" in done.stdout
    assert contents(out) == contents(tmp_path / "whole")
    assert kept == {path: path.stat().st_mtime_ns for path in kept}
    assert write(mimic, out, record_list=listed, options=options).records_read == 0


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="reads a file that gives EIO")
def test_a_failing_disk_is_told_in_a_line_and_rejects_nothing(tmp_path):
    records, out = tmp_path / "records", tmp_path / "out"
    for seed, name in enumerate("az"):
        write_record(records / name, ecg(seed))
    header = (records / "z.hea").read_text()
    (records / "z.hea").unlink()
    (records / "z.hea").symlink_to("/proc/self/mem")
    stopped = run(f"--records={records}", "--records_per_shard=1", "--out", out)
    assert stopped.returncode == 1 and "Traceback" not in stopped.stderr
    said = f"write_shards: {records}/z.hea: cannot be read now (Input/output error); try again: "
    assert said + "run the same command again, finished shards are kept" in stopped.stderr
    assert not (out / "rejected.csv").exists() and not list(out.rglob("*.tmp"))
    (records / "z.hea").unlink()
    (records / "z.hea").write_text(header)
    assert write(records, out, options=WriteOptions(records_per_shard=1)).recordings == 2


ELSEWHERE = """
from apache_beam.runners.runner import PipelineResult, PipelineRunner

class Result(PipelineResult):
    def wait_until_finish(self, duration=None):
        return self.state

class Elsewhere(PipelineRunner):
    def run_pipeline(self, pipeline, options):
        return Result("DONE")
"""


def test_shards_that_workers_wrote_elsewhere_are_missed(tmp_path):
    """As by a cluster that has not mounted the folder, and does all in folders of its own."""
    write_record(tmp_path / "records" / "a", ecg(0))
    (tmp_path / "cluster.py").write_text(ELSEWHERE)
    out = tmp_path / "out"
    command = [f"--records={tmp_path / 'records'}", "--out", out]
    done = run(*command, "--beam_options=--runner=cluster.Elsewhere", modules=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"{out}: Apache Beam's pipeline ended (DONE), and 1 of 1 shards are not" in done.stderr
    assert not (out / "manifest.json").exists() and not list(out.rglob("*.tmp"))


def test_an_option_that_nobody_knows_is_refused_before_anything_is_written(tmp_path):
    write_record(tmp_path / "records" / "a", ecg(0))
    out = tmp_path / "out"
    wrong = run(f"--records={tmp_path / 'records'}", "--out", out, "--beam_options=--runer=Flink")
    assert wrong.returncode == 1 and not out.exists()
    assert "--beam_options: Apache Beam's DirectRunner has no option runer" in wrong.stderr
