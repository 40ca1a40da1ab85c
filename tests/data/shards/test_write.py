"""Sets of shards written in parallel, interrupted, gone on with, and annotated anew."""

import dataclasses
import hashlib
import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from clef_jax.data.annotations.join import MetadataTable, RiskTable
from clef_jax.data.annotations.splits import is_validation_patient
from clef_jax.data.recordings.recording import Hints
from clef_jax.data.shards.format import ShardError, shard_faults
from clef_jax.data.shards.plan import WriteError, WriteOptions
from clef_jax.data.shards.store import ShardSet
from clef_jax.data.signals.leads import STANDARD_LEADS
from clef_jax.data.signals.montage import Montage
from clef_jax.data.signals.spec import CLEF_V2, ECGFOUNDER
from clef_jax.files import locked
from tests.shard_records import contents, ecg, mimic_name, write, write_record
from tests.waiting import children_of, wait_for, wait_until_gone

ROOT = pathlib.Path(__file__).resolve().parents[3]


def test_split_keeps_patients_together(mimic, tmp_path):
    write(mimic, tmp_path / "out", record_list=str(mimic / "record_list.csv"),
          validation_fraction=0.4)  # fmt: skip
    shards = ShardSet(tmp_path / "out")
    held_out = shards.annotations.is_validation
    train, validation = set(shards.patient[~held_out]), set(shards.patient[held_out])
    assert train and validation and not train & validation
    assert len(train | validation) == 12 and shards.records == 24


def test_an_impossible_split_is_refused_before_anything_is_written(mimic, tmp_path):
    with pytest.raises(WriteError, match="validation_fraction is 1.0; expected 0 to below 1"):
        write(mimic, tmp_path / "out", validation_fraction=1.0)
    assert not (tmp_path / "out").exists()


def command(records, out, *more):
    arguments = ["--records", records, "--record_list", records / "record_list.csv", "--out", out]
    return [sys.executable, ROOT / "tools/write_shards.py", *arguments, *more]


def test_output_does_not_depend_on_the_workers(mimic, tmp_path):
    listed = str(mimic / "record_list.csv")
    options = WriteOptions(records_per_shard=5)
    write(mimic, tmp_path / "one", record_list=listed, options=options)
    done = subprocess.run(
        command(mimic, tmp_path / "two", "--records_per_shard=5", "--workers=2"),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert "written                   24" in done.stdout and "24/24" in done.stderr
    assert shard_faults(tmp_path / "two", checksums=True) == []


def start_until(parts, run, out):
    """Starts a run in the background and returns once so many shards are finished."""
    process = subprocess.Popen(run, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_for(
        lambda: len(list((out / "parts").glob("part-*.parquet"))) >= parts,
        meanwhile=lambda: process.poll() is None,
    )
    return process


@pytest.mark.slow
def test_kill_and_resume(tmp_path):
    records, out = tmp_path / "records", tmp_path / "out"
    beats = [ecg(i) for i in range(8)]
    rows = []
    for i in range(240):
        rows.append((f"1{i:07d}", f"4{i:07d}", mimic_name(f"1{i:07d}", f"4{i:07d}")))
        write_record(records / rows[i][2], np.roll(beats[i % 8], i, 1))
    pd.DataFrame(rows, columns=["subject_id", "study_id", "path"]).to_csv(
        records / "record_list.csv", index=False
    )
    run = command(records, out, "--records_per_shard=8", "--workers=2")

    process = start_until(1, run, out)
    for child in children_of(process):
        if "spawn_main" in " ".join(child.cmdline()):
            child.kill()
            break
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"{out}: a worker process died" in printed and "finished shards are kept" in printed
    finished = len(list((out / "parts").glob("part-*.parquet")))

    process = start_until(finished + 2, run, out)
    workers = children_of(process)
    process.kill()
    process.communicate()
    wait_until_gone(workers)
    parts = [int(part.stem.split("-")[1]) for part in (out / "parts").glob("part-*.parquet")]
    finished = [out / f"leads-{k:05d}.array_record" for k in parts]
    assert 3 <= len(finished) < 30 and not (out / "manifest.json").exists()
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in finished}

    listed, options = str(records / "record_list.csv"), WriteOptions(records_per_shard=8)
    resumed = write(records, out, record_list=listed, options=options)
    assert resumed.records_read == 240 - 8 * len(finished) and resumed.recordings == 240
    assert before == {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in finished}
    write(records, tmp_path / "whole", record_list=listed, options=options)
    assert contents(out) == contents(tmp_path / "whole")
    assert not list(out.rglob("*.tmp"))


def test_a_finished_set_is_left_alone(mimic, tmp_path):
    listed = str(mimic / "record_list.csv")
    write(mimic, tmp_path / "out", record_list=listed)
    before = contents(tmp_path / "out")
    shard = (tmp_path / "out/leads-00000.array_record").stat()
    report = write(mimic, tmp_path / "out", record_list=listed)
    assert report.records_read == 0 and "every shard was finished already" in str(report)
    assert contents(tmp_path / "out") == before
    assert (tmp_path / "out/leads-00000.array_record").stat().st_mtime_ns == shard.st_mtime_ns


def test_other_input_is_refused_and_nothing_lost(mimic, tmp_path):
    listed = str(mimic / "record_list.csv")
    write(mimic, tmp_path / "out", record_list=listed)
    before = contents(tmp_path / "out")
    patients = {"path": [mimic_name("10000000", "40000000")], "subject_id": ["7"]}
    pd.DataFrame(patients).to_csv(tmp_path / "m.csv", index=False)
    (mimic / "nobody.csv").write_text(
        (mimic / "record_list.csv").read_text().replace("subject", "x")
    )
    for changed, named in (
        ({"options": WriteOptions(min_leads=8)}, "options.min_leads"),
        (
            {
                "record_list": str(mimic / "nobody.csv"),
                "metadata": MetadataTable(str(tmp_path / "m.csv")),
            },
            "patients",
        ),
        ({"record_list": None}, "from_record_list, patients, record_names"),
    ):
        with pytest.raises(WriteError) as error:
            write(mimic, tmp_path / "out", **{"record_list": listed} | changed)
        for part in ("plan.json", f"different now: {named};", "use another --out"):
            assert part in str(error.value)
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("finished", [True, False])
def test_a_folder_of_an_earlier_format_is_left_to_its_release(mimic, tmp_path, finished):
    out = tmp_path / "out"
    shutil.copytree(ROOT / "tests/fixtures/release_0_1_0/shards", out)
    if not finished:
        (out / "manifest.json").unlink()
    before = contents(out)
    with pytest.raises(WriteError) as error:
        write(mimic, out)
    for part in (
        "plan.json: ", "format_version is 1", "writes 2", "with the release that began it",
        "another --out", "config.annotations",
    ):  # fmt: skip
        assert part in str(error.value)
    assert "different now" not in str(error.value)
    assert contents(out) == before


def test_other_tables_and_another_split_annotate_a_finished_set_anew(mimic, tmp_path):
    listed, out = str(mimic / "record_list.csv"), tmp_path / "out"
    patients = sorted(set(pd.read_csv(listed, dtype=str)["subject_id"]))
    for name, risks in (("low", np.arange(12) / 2), ("high", np.arange(12) * 2.0)):
        table = pd.DataFrame({"subject_id": patients, "risk": risks})
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    people = {"subject_id": patients, "age": range(50, 62), "sex": ["F", "M"] * 6}
    pd.DataFrame(people).to_csv(tmp_path / "people.csv", index=False)
    low, high = (RiskTable(str(tmp_path / f"{name}.csv")) for name in ("low", "high"))
    write(mimic, out, record_list=listed, risk=low)
    before, first = contents(out), ShardSet(out)

    report = write(mimic, out, record_list=listed, risk=high, validation_fraction=0.5,
                    metadata=MetadataTable(str(tmp_path / "people.csv")))  # fmt: skip
    assert report.records_read == 0 and report.risk_known == 24
    shards, after = ShardSet(out), contents(out)
    assert shards.fingerprint == first.fingerprint
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    assert changed == {"annotations.parquet", "manifest.json"}
    assert shard_faults(out, checksums=True) == []
    place = np.array([patients.index(patient) for patient in shards.patient])
    known = shards.annotations.columns
    np.testing.assert_array_equal(known["risk"], 2.0 * place)
    np.testing.assert_array_equal(known["age"], 50.0 + place)
    np.testing.assert_array_equal(known["male"], place % 2)
    held_out = [is_validation_patient(patient, 0.5) for patient in shards.patient]
    assert shards.annotations.is_validation.tolist() == held_out
    assert report.validation == sum(held_out) > first.annotations.is_validation.sum()
    write(mimic, out, record_list=listed, risk=low)
    assert contents(out) == before


def test_a_kill_before_the_manifest_is_mended_by_the_same_command(mimic, tmp_path):
    listed, out = str(mimic / "record_list.csv"), tmp_path / "out"
    write(mimic, out, record_list=listed, validation_fraction=0.5)
    killed = (out / "annotations.parquet").read_bytes()
    expected = contents(out)
    write(mimic, out, record_list=listed)
    (out / "annotations.parquet").write_bytes(killed)
    with pytest.raises(ShardError) as error:
        ShardSet(out)
    for part in ("annotations.parquet: ", "run tools/write_shards.py again", "writes it anew"):
        assert part in str(error.value)
    assert "delete" not in str(error.value)
    report = write(mimic, out, record_list=listed, validation_fraction=0.5)
    assert report.records_read == 0 and contents(out) == expected
    ShardSet(out)


@pytest.mark.slow
def test_the_tool_writes_with_a_preprocessing_of_choice(mimic, tmp_path):
    at_250 = dataclasses.replace(CLEF_V2, fs=250, samples=2500)
    (tmp_path / "at_250.json").write_text('{"fs": 250, "samples": 2500}')
    tool = [sys.executable, ROOT / "tools/write_shards.py", "--records", mimic, "--workers=1"]
    for name, spec in (("ecgfounder", ECGFOUNDER), (f"{tmp_path}/at_250.json", at_250)):
        out = tmp_path / f"of_{spec.samples}"
        subprocess.run([*tool, "--out", out, f"--spec={name}"], check=True, capture_output=True)
        assert ShardSet(out).spec == spec
        assert ShardSet(out).read([0], [0]).shape == (1, spec.samples)
    with pytest.raises(WriteError, match="different now: preprocessing.fs, preprocessing.samples"):
        write(mimic, tmp_path / "of_2500")
    bad = subprocess.run([*tool, "--out", out, "--spec=clef"], capture_output=True, text=True)
    assert bad.returncode == 1 and "clef: no such file; expected one, or the name" in bad.stderr


def test_only_one_writer_at_a_time(mimic, tmp_path):
    out = tmp_path / "out"
    (out / "parts").mkdir(parents=True)
    with (
        locked(out / ".lock"),
        pytest.raises(WriteError, match="another write_shards is writing there .process"),
    ):
        write(mimic, out, record_list=str(mimic / "record_list.csv"))


@pytest.mark.slow
def test_the_tool_verifies_and_reports_errors(mimic, tmp_path):
    out = tmp_path / "out"
    write(mimic, out, record_list=str(mimic / "record_list.csv"))
    verify = [sys.executable, ROOT / "tools/write_shards.py", "--out", out, "--verify"]
    good = subprocess.run(verify, capture_output=True, text=True, check=True)
    assert "every checksum agrees" in good.stdout
    shard = out / "leads-00000.array_record"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    bad = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert bad.returncode == 1 and str(shard) in bad.stderr and "checksum" in bad.stderr


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"min_leads": 0}, "min_leads is 0; expected 1 to 12"), ({"min_leads": 13}, "1 to 12"),
     ({"min_leads": 3, "montage": Montage("two", ("II", "V5"))}, "min_leads is 3; expected 1 to 2"),
     ({"records_per_shard": 0}, "records_per_shard"), ({"hints": Hints(fs=0.0)}, "fs is 0.0"),
     ({"hints": Hints(adu_per_mv=-1.0)}, "adu_per_mv is -1.0")],
)  # fmt: skip
def test_impossible_options(wrong, message):
    with pytest.raises(WriteError, match=message):
        WriteOptions(**wrong)


def test_manifest_counts(mimic, tmp_path):
    write(mimic, tmp_path / "out", record_list=str(mimic / "record_list.csv"))
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["records"] == 24 and manifest["patients"] == 12
    assert [entry["file"] for entry in manifest["files"]] == [
        "leads-00000.array_record", "index.parquet", "annotations.parquet", "rejected.csv",
        "notes.csv",
    ]  # fmt: skip
    for entry in manifest["files"]:
        content = (tmp_path / "out" / entry["file"]).read_bytes()
        assert entry["bytes"] == len(content)
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
    assert len(STANDARD_LEADS) * 24 * 10_000 < manifest["files"][0]["bytes"]
