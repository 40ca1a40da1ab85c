"""What is left out of shards, and what is said of it."""

import os
import shutil

import numpy as np
import pytest

from clef_jax.data.recordings.recording import Hints
from clef_jax.data.shards.plan import WriteError, WriteOptions
from clef_jax.data.shards.store import ShardSet
from tests.shard_records import MIMIC_ORDER, ecg, rejections, write, write_record


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
    report = write(troubled, tmp_path / "out")
    shards = ShardSet(tmp_path / "out")
    assert list(shards.record) == ["good"] and shards.patient[0] == "p1"
    known = shards.annotations.columns
    assert known["age"][0] == 61 and known["male"][0] == 0
    rejected = rejections(tmp_path / "out")
    expected = {
        "short": "too short: 4750 samples at 500 Hz, needs 10 s",
        "microvolts": "the samples are probably µV; write /uV",
        "all_nan": "bad leads: aVL non-finite in 100% of samples",
        "flat": "bad leads: V1 flat: 0 µV peak to peak",
        "eleven": "missing leads: V6",
        "holter": ", Z, only MLII, MV1 (left out: resp: by its label no ECG)",
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
    assert report.records_in == 12 and report.recordings == 1
    assert report.rejected == {
        "bad leads": 3, "duplicate samples": 1, "missing leads": 2, "too short": 1, "unreadable": 4,
    }  # fmt: skip
    for text in ("records in                  12", "rejected                  11", "4  unreadable"):
        assert text in str(report)


def test_fewer_leads_when_asked_for(troubled, tmp_path):
    write(troubled, tmp_path / "out", options=WriteOptions(min_leads=11))
    shards = ShardSet(tmp_path / "out")
    assert list(shards.record) == ["all_nan", "eleven", "flat", "good"]
    leads = dict(zip(shards.record, shards.lead_ids, strict=True))
    assert 4 not in leads["all_nan"] and 6 not in leads["flat"] and 11 not in leads["eleven"]
    assert list(shards.n_leads) == [11, 11, 11, 12]


def test_everything_rejected_is_an_error(tmp_path):
    write_record(tmp_path / "records/a", ecg(1, seconds=5))
    with pytest.raises(WriteError, match=r"rejected\.csv: every record was rejected"):
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


def test_records_without_a_patient_stand_in_for_one(tmp_path):
    for name in ("x/1", "y/1", "y/2"):
        write_record(tmp_path / "records" / name, ecg(sum(map(ord, name))))
    report = write(tmp_path / "records", tmp_path / "out")
    assert report.patients_from_records == report.patients == 3
    assert "3 records name no patient" in str(report)
    assert list(ShardSet(tmp_path / "out").patient) == ["x/1", "y/1", "y/2"]


def test_wrong_gains_show_in_the_summary(real_data, tmp_path):
    for name in ("1", "2"):
        source = sorted((real_data / "ludb/data").glob("*.hea"))[int(name)]
        (tmp_path / "records").mkdir(exist_ok=True)
        shutil.copy(source, tmp_path / "records")
        shutil.copy(source.with_suffix(".dat"), tmp_path / "records")
    report = write(tmp_path / "records", tmp_path / "a")
    assert report.einthoven_violations == 2 and "2 records contradict" in str(report)
    right = WriteOptions(hints=Hints(adu_per_mv=1000))
    assert write(tmp_path / "records", tmp_path / "b", options=right).einthoven_violations == 0
