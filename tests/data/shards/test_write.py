import csv
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from clef_jax.data.annotations.join import MetadataTable, RiskTable, join_metadata
from clef_jax.data.recordings.listing import list_recordings
from clef_jax.data.shards.format import shard_faults
from clef_jax.data.shards.plan import IngestError, IngestOptions
from clef_jax.data.shards.store import ShardSet
from clef_jax.data.shards.task import is_validation_patient
from clef_jax.data.shards.write import write_shards
from clef_jax.data.signals.leads import STANDARD_LEADS
from clef_jax.files import locked
from clef_jax.tables.columns import TableError
from tests.waiting import children_of, wait_until_gone

ROOT = pathlib.Path(__file__).resolve().parents[3]
MIMIC_ORDER = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")


def ecg(seed, fs=500, seconds=10, leads=12):
    """Returns int16 [leads, time] at 1000 adu/mV; limb leads obey III = II - I."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(fs * seconds)) / fs
    beat = np.exp(-((t * (1 + seed % 7 / 10) % 1 - 0.5) ** 2) / 2e-4)
    x = np.outer(rng.uniform(0.4, 1.5, leads), beat) + rng.normal(0, 0.02, (leads, t.size))
    x[2] = x[1] - x[0]
    return np.round(1000 * x).astype("<i2")


def write_record(path, x, leads=MIMIC_ORDER, fs=500, comments=(), units="mV", gain=1000):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    x.T.astype("<i2").tofile(f"{path}.dat")
    lines = [f"{path.name} {len(leads)} {fs} {x.shape[1]}"]
    lines += [f"{path.name}.dat 16 {gain}(0)/{units} 16 0 0 0 0 {lead}" for lead in leads]
    lines += [f"# {comment}" for comment in comments]
    pathlib.Path(f"{path}.hea").write_text("\n".join(lines) + "\n", encoding="utf-8")


def mimic_name(subject, study):
    return f"files/p{subject[:4]}/p{subject}/s{study}/{study}"


@pytest.fixture(scope="module")
def mimic(tmp_path_factory):
    """24 recordings of 12 patients in MIMIC-IV-ECG's layout, with its record list."""
    folder = tmp_path_factory.mktemp("mimic")
    rows = []
    for i in range(24):
        subject, study = f"1000{i // 2:04d}", f"4000{i:04d}"
        write_record(folder / mimic_name(subject, study), ecg(i))
        rows.append((subject, study, mimic_name(subject, study)))
    pd.DataFrame(rows, columns=["subject_id", "study_id", "path"]).to_csv(
        folder / "record_list.csv", index=False
    )
    return folder


def write(records, out, **arguments):
    defaults = {"workers": 1, "progress": False}
    return write_shards(records, out, **defaults | arguments)


def rejections(out):
    with open(out / "rejected.csv", newline="", encoding="utf-8") as stream:
        return {row["record"]: row for row in csv.DictReader(stream)}


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


# --- the split -----------------------------------------------------------------------------------


def test_split_is_stable_and_of_the_right_size():
    patients = [str(i) for i in range(20_000)]
    held_out = {p for p in patients if is_validation_patient(p, 0.05)}
    assert 0.045 < len(held_out) / 20_000 < 0.055
    assert held_out < {p for p in patients if is_validation_patient(p, 0.1)}
    # SHA-256("10000032") begins with 3a09dd…, 0.226713 of the range: it must stay there for ever.
    assert [is_validation_patient("10000032", f) for f in (0.22671, 0.22672)] == [False, True]
    assert not any(is_validation_patient(p, 0.0) for p in patients)


def test_split_keeps_patients_together(mimic, tmp_path):
    write(mimic, tmp_path / "out", record_list=str(mimic / "record_list.csv"),
          options=IngestOptions(validation_fraction=0.4))  # fmt: skip
    shards = ShardSet(tmp_path / "out")
    train = set(shards.patient[~shards.is_validation])
    validation = set(shards.patient[shards.is_validation])
    assert train and validation and not train & validation
    assert len(train | validation) == 12 and shards.records == 24


# --- joining tables ------------------------------------------------------------------------------


def test_record_list_names_patients_and_studies(mimic, tmp_path):
    summary = write(mimic, tmp_path / "out", record_list=str(mimic / "record_list.csv"))
    shards = ShardSet(tmp_path / "out")
    assert summary.written == 24 and summary.patients == 12 and not summary.patients_from_records
    assert shards.patient[0] == "10000000" and shards.record[0] == mimic_name(
        "10000000", "40000000"
    )
    # MIMIC stores aVF before aVL; shards have the standard order.
    assert list(shards.lead_ids[0, :12]) == list(range(12))


@pytest.mark.parametrize("key", ["subject_id", "study_id", "path", "record"])
def test_risk_table_by_any_key(mimic, tmp_path, key):
    listed = pd.read_csv(mimic / "record_list.csv", dtype=str)
    listed["record"] = listed["path"].str.split("/").str[-1]
    table = listed[[key]].drop_duplicates().iloc[::-1].reset_index(drop=True)
    table["risk"] = np.arange(len(table)) / 2.0
    table["completeness"] = 0.75
    table.loc[0, "risk"] = np.nan
    table.to_parquet(tmp_path / "risk.parquet")
    summary = write(mimic, tmp_path / "out", record_list=str(mimic / "record_list.csv"),
                    risk=RiskTable(str(tmp_path / "risk.parquet")))  # fmt: skip
    expected = dict(zip(table[key], table["risk"], strict=True))
    shards = ShardSet(tmp_path / "out")
    index = listed.set_index("path").loc[list(shards.record)].reset_index()
    np.testing.assert_array_equal(shards.risk, index[key].map(expected).to_numpy(np.float32))
    assert (shards.completeness == 0.75).all()
    assert summary.matches == {"risk": 24} and summary.risk_known == np.isfinite(shards.risk).sum()


def test_the_original_s_table(mimic, tmp_path):
    listed = pd.read_csv(mimic / "record_list.csv", dtype=str)
    table = pd.DataFrame({
        "path": listed["path"], "gender": ["M", "F"] * 12, "age_at_ecg": range(40, 64),
        "anchor_age": 50, "BMI (kg/m2)": 25.0, "Blood Pressure": "120/80", "Height (Inches)": 70,
        "Weight (Lbs)": 150, "heart_rate": 70, "heart_rate_var": 3.0, "rate_meta": 0.8,
        "score2_risk": np.linspace(0, 20, 24),
    })  # fmt: skip
    path = str(tmp_path / "mimiciv_metadata_with_score2.csv")
    table.to_csv(path, index=False)
    write(mimic, tmp_path / "out", record_list=str(mimic / "record_list.csv"),
          metadata=MetadataTable(path), risk=RiskTable(path))  # fmt: skip
    shards = ShardSet(tmp_path / "out")
    np.testing.assert_allclose(shards.risk, np.linspace(0, 20, 24), rtol=1e-6)
    np.testing.assert_allclose(shards.completeness, 0.8, rtol=1e-6)
    np.testing.assert_array_equal(shards.age, np.arange(40, 64))
    np.testing.assert_array_equal(shards.male, [1, 0] * 12)
    assert set(shards.patient) == set(listed["subject_id"])


def test_ptb_xl_table(real_data):
    folder = str(real_data / "ptb-xl/records500")
    records, rejected = list_recordings(folder)
    metadata = MetadataTable(str(real_data / "ptb-xl/ptbxl_database.csv"))
    joined, found = join_metadata(records, metadata, folder)
    assert found == len(joined) == 333 and not rejected
    oracle = pd.read_csv(real_data / "ptb-xl/ptbxl_database.csv").set_index("filename_hr")
    oracle = oracle.loc[["records500/" + name for name in joined["record"]]]
    assert list(joined["patient"]) == [str(int(p)) for p in oracle["patient_id"]]
    assert list(joined["sex"]) == [("male", "female")[s] for s in oracle["sex"]]
    age = oracle["age"].where(oracle["age"] <= 120).to_numpy(np.float32)
    np.testing.assert_array_equal(joined["age"], age)


def test_ludb_table(real_data):
    folder = str(real_data / "ludb/data")
    records, _ = list_recordings(folder)
    joined, found = join_metadata(records, MetadataTable(str(real_data / "ludb/ludb.csv")), folder)
    assert found == 135
    assert joined.set_index("record").loc["10", ["age", "sex"]].tolist() == [79, "female"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"pathh": ["a"], "risk": [1]}, "no column that says whose row it is; found pathh, risk"),
        ({"path": ["a"], "rsk": [1]}, "no column for the risk in percent"),
        ({"path": ["x/y"], "risk": [1]}, "path (such as 'x/y'). The first record: path 'files/"),
        ({"subject_id": ["7"], "risk": [1]}, "study 40000000, patient 10000000"),
        (
            {"subject_id": ["10000000"], "risk": [101]},
            "holds '101' in row 1; expected a percentage",
        ),
        ({"subject_id": ["10000000"] * 2, "risk": [1, 2]}, "'10000000' has rows that differ"),
        (
            {"path": ["a"], "risk": [1], "completeness": [80]},
            "column 'completeness' holds '80' in row 1; expected a share from 0 to 1",
        ),
    ],
)
def test_risk_tables_that_do_not_fit(mimic, tmp_path, columns, message):
    path = str(tmp_path / "risk.csv")
    pd.DataFrame(columns).to_csv(path, index=False)
    with pytest.raises(TableError) as error:
        write(mimic, tmp_path / "out", record_list=str(mimic / "record_list.csv"),
              risk=RiskTable(path))  # fmt: skip
    assert message in str(error.value) and "risk.csv" in str(error.value)
    assert not (tmp_path / "out").exists()


def test_ambiguous_tables_are_refused(tmp_path):
    for name in ("a/1", "b/1"):
        write_record(tmp_path / "records" / name, ecg(len(name)))
    pd.DataFrame({"record": ["1"], "sex": ["M"]}).to_csv(tmp_path / "m.csv", index=False)
    with pytest.raises(TableError, match="'1' fits several records, such as a/1 and b/1"):
        write(
            tmp_path / "records", tmp_path / "out", metadata=MetadataTable(str(tmp_path / "m.csv"))
        )
    pd.DataFrame({"record": ["a/1"], "sex": ["1"]}).to_csv(tmp_path / "m.csv", index=False)
    with pytest.raises(TableError, match="codes sex as numbers.*--sex_coding"):
        write(
            tmp_path / "records", tmp_path / "out", metadata=MetadataTable(str(tmp_path / "m.csv"))
        )


def test_mapped_columns(tmp_path):
    write_record(tmp_path / "records/a", ecg(0))
    write_record(tmp_path / "records/b", ecg(1))
    pd.DataFrame({"Fall": ["b", "a"], "Person": [7.0, 9.0], "Alter": [51, 300], "g": ["w", "F"]})\
        .to_csv(tmp_path / "m.csv", index=False)  # fmt: skip
    table = MetadataTable(str(tmp_path / "m.csv"), "Fall", "Person", "Alter", "g")
    write(tmp_path / "records", tmp_path / "out", metadata=table)
    shards = ShardSet(tmp_path / "out")
    assert list(shards.patient) == ["9", "7"]
    np.testing.assert_array_equal(shards.age, [np.nan, 51])
    np.testing.assert_array_equal(shards.male, [0, np.nan])
    with pytest.raises(TableError, match="no column 'Falll'; found Fall, Person"):
        write(tmp_path / "records", tmp_path / "out2",
              metadata=MetadataTable(str(tmp_path / "m.csv"), "Falll"))  # fmt: skip


@pytest.mark.parametrize("path", ["../x", "files/../../x", "/etc/passwd", "", "a/../.."])
def test_a_path_that_leaves_the_folder_is_refused(mimic, tmp_path, path):
    pd.DataFrame({"path": [mimic_name("10000000", "40000000"), path]}).to_csv(
        tmp_path / "list.csv", index=False
    )
    with pytest.raises(TableError) as error:
        write(mimic, tmp_path / "out", record_list=str(tmp_path / "list.csv"))
    for part in ("list.csv", "line 3", "leaves the records folder", "refused", "relative"):
        assert part in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_link_that_leaves_the_folder_is_rejected(tmp_path):
    write_record(tmp_path / "secret/r", ecg(0))
    write_record(tmp_path / "records/a/good", ecg(1))
    write_record(tmp_path / "records/b/half", ecg(2))
    (tmp_path / "records/link").symlink_to(tmp_path / "secret")
    (tmp_path / "records/b/half.dat").unlink()
    (tmp_path / "records/b/half.dat").symlink_to(tmp_path / "secret/r.dat")
    pd.DataFrame({"path": ["link/r", "a/good", "b/half"]}).to_csv(tmp_path / "l.csv", index=False)
    write(tmp_path / "records", tmp_path / "out", record_list=str(tmp_path / "l.csv"))
    rejected = rejections(tmp_path / "out")
    assert set(rejected) == {"link/r", "b/half"}
    assert all("outside the records folder" in row["reason"] for row in rejected.values())


def test_nothing_to_read(tmp_path):
    with pytest.raises(TableError, match="holds no WFDB record"):
        write(tmp_path, tmp_path / "out")
    with pytest.raises(TableError, match="no such folder"):
        write(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "list.csv").write_text("file,study\na,b\n")
    with pytest.raises(TableError, match=r"list\.csv: no column for a record's path.*found file"):
        write(tmp_path, tmp_path / "out", record_list=str(tmp_path / "list.csv"))


# --- rejecting records ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def troubled(tmp_path_factory):
    """One good recording among one of every kind of trouble."""
    folder = tmp_path_factory.mktemp("troubled")
    write_record(folder / "good", ecg(0), comments=["Age: 61", "Sex: F", "Patient: p1"])
    write_record(folder / "short", ecg(1, seconds=9.5))
    write_record(folder / "microvolts", ecg(2), gain=1)
    missing = ecg(3)
    missing[5] = -32768
    write_record(folder / "all_nan", missing)
    flat = ecg(4)
    flat[6] = 0
    write_record(folder / "flat", flat)
    write_record(folder / "eleven", ecg(5)[:11], leads=MIMIC_ORDER[:11])
    write_record(folder / "holter", ecg(6)[:3], leads=("MLII", "MV1", "resp"))
    write_record(folder / "truncated", ecg(7))
    os.truncate(folder / "truncated.dat", 50_000)
    write_record(folder / "no_signal", ecg(8))
    (folder / "no_signal.dat").unlink()
    (folder / "garbage.hea").write_bytes(bytes(range(256)))
    write_record(folder / "rail", np.where(np.arange(5000) % 9, 32767, 0) + 0 * ecg(9))
    write_record(folder / "zz_copy_of_good", ecg(0), comments=["Patient: p2"])
    return folder


def test_each_rejection_names_file_and_reason(troubled, tmp_path):
    summary = write(troubled, tmp_path / "out")
    shards = ShardSet(tmp_path / "out")
    assert list(shards.record) == ["good"] and shards.patient[0] == "p1"
    assert shards.age[0] == 61 and shards.male[0] == 0
    rejected = rejections(tmp_path / "out")
    expected = {
        "short": "too short: 4750 samples at 500 Hz, needs 10 s",
        "microvolts": "the samples are probably µV; write /uV",
        "all_nan": "bad leads: aVL non-finite in 100% of samples",
        "flat": "bad leads: V1 flat: 0 µV peak to peak",
        "eleven": "missing leads: V6",
        "holter": "missing leads: none of the 12, only MLII, MV1, resp",
        "truncated": "truncated: room for 2083 samples per lead, but truncated.hea declares 5000",
        "no_signal": "'no_signal.dat' cannot be read (No such file or directory)",
        "garbage": "unreadable",
        "rail": "saturated: beyond 15 mV in 11% of samples",
        "zz_copy_of_good": "duplicate samples: identical to good",
    }
    assert set(rejected) == set(expected)
    for name, reason in expected.items():
        assert reason in rejected[name]["reason"]
        assert rejected[name]["file"] == str(troubled / name)
    assert summary.records_in == 12 and summary.written == 1
    assert summary.rejected == {
        "bad leads": 3, "duplicate samples": 1, "missing leads": 2, "too short": 1, "unreadable": 4,
    }  # fmt: skip
    for text in ("records in                  12", "rejected                  11", "4  unreadable"):
        assert text in str(summary)


def test_fewer_leads_when_asked_for(troubled, tmp_path):
    write(troubled, tmp_path / "out", options=IngestOptions(min_leads=11))
    shards = ShardSet(tmp_path / "out")
    assert list(shards.record) == ["all_nan", "eleven", "flat", "good"]
    leads = dict(zip(shards.record, shards.lead_ids, strict=True))
    assert 4 not in leads["all_nan"] and 6 not in leads["flat"] and 11 not in leads["eleven"]
    assert list(shards.n_leads) == [11, 11, 11, 12]


def test_everything_rejected_is_an_error(tmp_path):
    write_record(tmp_path / "records/a", ecg(1, seconds=5))
    with pytest.raises(IngestError, match=r"rejected\.csv: every record was rejected"):
        write(tmp_path / "records", tmp_path / "out")
    assert rejections(tmp_path / "out")["a"]["reason"] == (
        "too short: 2500 samples at 500 Hz, needs 10 s"
    )


@pytest.mark.parametrize(
    ("fs", "samples", "reason"),
    [
        (250, 2500, None),
        (250, 2499, "too short: 2499 samples at 250 Hz, needs 10 s"),
        # 10 s are 3333.3 samples, of which the last third resamples to nothing.
        (333.33, 3333, None),
        (333.33, 3332, "too short: 3332 samples at 333.33 Hz, needs 10 s"),
        (75, 900, "too low a rate: 75 Hz cannot hold the band to 40 Hz"),
    ],
)
def test_a_sample_short(tmp_path, fs, samples, reason):
    write_record(tmp_path / "records/a", ecg(0))
    write_record(tmp_path / "records/b", ecg(1, fs=fs, seconds=20)[:, :samples], fs=fs)
    write(tmp_path / "records", tmp_path / "out")
    found = {name: row["reason"] for name, row in rejections(tmp_path / "out").items()}
    assert found == ({"b": reason} if reason else {})


# --- faults that may pass ------------------------------------------------------------------------


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
    summary = write(records, out, options=IngestOptions(records_per_shard=1))
    assert summary.records_read == 1 and list(ShardSet(out).record) == ["a", "c", "z"]
    assert "symbolic links" in rejections(out)["b"]["reason"]


OUT_OF_MEMORY = """
import re, resource, sys
from clef_jax.data.shards.plan import IngestError, IngestOptions
from clef_jax.data.shards.write import write_shards

good, both, out = sys.argv[1:]
options = IngestOptions(records_per_shard=1)
write_shards(good, out + "_good", options=options, workers=1, progress=False)
used = int(re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read()).group(1)) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, resource.RLIM_INFINITY))
try:
    write_shards(both, out, options=options, workers=1, progress=False)
except IngestError as error:
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


def test_duplicate_studies(mimic, tmp_path):
    listed = pd.read_csv(mimic / "record_list.csv", dtype=str).iloc[:4]
    listed.loc[4] = listed.loc[0]
    listed.loc[5] = ("10000009", "40000001", mimic_name("10000009", "40000018"))
    listed.to_csv(tmp_path / "list.csv", index=False)
    summary = write(mimic, tmp_path / "out", record_list=str(tmp_path / "list.csv"))
    assert summary.records_in == 6 and summary.rejected == {"duplicate study": 2}
    reasons = [row["reason"] for row in rejections(tmp_path / "out").values()]
    assert any("study 40000001 is already" in reason for reason in reasons)
    assert ShardSet(tmp_path / "out").records == 4


def test_records_without_a_patient_stand_in_for_one(tmp_path):
    for name in ("x/1", "y/1", "y/2"):
        write_record(tmp_path / "records" / name, ecg(sum(map(ord, name))))
    summary = write(tmp_path / "records", tmp_path / "out")
    assert summary.patients_from_records == summary.patients == 3
    assert "3 records name no patient" in str(summary)
    assert list(ShardSet(tmp_path / "out").patient) == ["x/1", "y/1", "y/2"]


def test_wrong_gains_show_in_the_summary(real_data, tmp_path):
    for name in ("1", "2"):
        source = sorted((real_data / "ludb/data").glob("*.hea"))[int(name)]
        (tmp_path / "records").mkdir(exist_ok=True)
        shutil.copy(source, tmp_path / "records")
        shutil.copy(source.with_suffix(".dat"), tmp_path / "records")
    summary = write(tmp_path / "records", tmp_path / "a")
    assert summary.einthoven_violations == 2 and "2 records contradict" in str(summary)
    right = IngestOptions(adu_per_mv=1000)
    assert write(tmp_path / "records", tmp_path / "b", options=right).einthoven_violations == 0


# --- parallel, interrupted, resumed --------------------------------------------------------------


def command(records, out, *more):
    arguments = ["--records", records, "--record_list", records / "record_list.csv", "--out", out]
    return [sys.executable, ROOT / "tools/write_shards.py", *arguments, *more]


def test_output_does_not_depend_on_the_workers(mimic, tmp_path):
    listed = str(mimic / "record_list.csv")
    options = IngestOptions(records_per_shard=5)
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
    deadline = time.monotonic() + 60
    while len(list((out / "parts").glob("part-*.parquet"))) < parts:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    return process


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

    listed, options = str(records / "record_list.csv"), IngestOptions(records_per_shard=8)
    resumed = write(records, out, record_list=listed, options=options)
    assert resumed.records_read == 240 - 8 * len(finished) and resumed.written == 240
    assert before == {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in finished}
    write(records, tmp_path / "whole", record_list=listed, options=options)
    assert contents(out) == contents(tmp_path / "whole")
    assert not list(out.rglob("*.tmp"))


def test_a_finished_set_is_left_alone(mimic, tmp_path):
    listed = str(mimic / "record_list.csv")
    write(mimic, tmp_path / "out", record_list=listed)
    before = contents(tmp_path / "out")
    shard = (tmp_path / "out/leads-00000.array_record").stat()
    summary = write(mimic, tmp_path / "out", record_list=listed)
    assert summary.records_read == 0 and "every shard was finished already" in str(summary)
    assert contents(tmp_path / "out") == before
    assert (tmp_path / "out/leads-00000.array_record").stat().st_mtime_ns == shard.st_mtime_ns


def test_other_input_is_refused_and_nothing_lost(mimic, tmp_path):
    listed = str(mimic / "record_list.csv")
    write(mimic, tmp_path / "out", record_list=listed)
    before = contents(tmp_path / "out")
    pd.DataFrame({"subject_id": ["10000000"], "risk": [3.0]}).to_csv(tmp_path / "r.csv")
    for changed, named in (
        ({"options": IngestOptions(min_leads=8)}, "options.min_leads"),
        ({"risk": RiskTable(str(tmp_path / "r.csv"))}, "risks"),
        ({"record_list": None}, "from_record_list, patients, record_names"),
    ):
        with pytest.raises(IngestError) as error:
            write(mimic, tmp_path / "out", **{"record_list": listed} | changed)
        for part in ("plan.json", f"different now: {named};", "use another --out"):
            assert part in str(error.value)
    assert contents(tmp_path / "out") == before


def test_only_one_writer_at_a_time(mimic, tmp_path):
    out = tmp_path / "out"
    (out / "parts").mkdir(parents=True)
    with (
        locked(out / ".lock"),
        pytest.raises(IngestError, match="another write_shards is writing there .process"),
    ):
        write(mimic, out, record_list=str(mimic / "record_list.csv"))


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
    "wrong",
    [{"min_leads": 0}, {"min_leads": 13}, {"validation_fraction": 1.0}, {"records_per_shard": 0},
     {"adu_per_mv": -1.0}],
)  # fmt: skip
def test_impossible_options(wrong):
    with pytest.raises(IngestError, match=next(iter(wrong))):
        IngestOptions(**wrong)


def test_manifest_counts(mimic, tmp_path):
    write(mimic, tmp_path / "out", record_list=str(mimic / "record_list.csv"))
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["records"] == 24 and manifest["train"] + manifest["validation"] == 24
    assert [entry["file"] for entry in manifest["files"]] == [
        "leads-00000.array_record", "index.parquet", "rejected.csv",
    ]  # fmt: skip
    for entry in manifest["files"]:
        content = (tmp_path / "out" / entry["file"]).read_bytes()
        assert entry["bytes"] == len(content)
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
    assert len(STANDARD_LEADS) * 24 * 10_000 < manifest["files"][0]["bytes"]
