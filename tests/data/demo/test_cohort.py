"""Demonstration cohorts: MIMIC-IV-ECG's layout, and tables for real recordings."""

import importlib
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from clef_jax.data.demo.cohort import (
    CohortError,
    write_cohort_of_recordings,
    write_simulated_cohort,
)
from clef_jax.data.recordings import read_recording
from clef_jax.risk.table import compute_risk_table
from clef_jax.tables.files import read_table
from tests.searching import paths_in
from tests.waiting import wait_for

ROOT = pathlib.Path(__file__).resolve().parents[3]
SYNTHETIC = ["smoker", "sbp_mmhg", "total_chol_mmol_l", "hdl_mmol_l", "diabetes"]
SYNTHETIC += ["age_at_diagnosis", "hba1c_mmol_mol", "egfr"]
COLUMNS = ["subject_id", "age", "sex", *SYNTHETIC, "provenance"]
MIMIC_LEADS = ["I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6"]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated") / "cohort"
    write_simulated_cohort(folder, 120, seed=7)
    return folder


def _contents(folder):
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_layout_and_record_list_are_those_of_mimic(cohort, real_data):
    real = (real_data / "mimic-iv-ecg" / "record_list.csv").read_text().splitlines()
    written = (cohort / "record_list.csv").read_text().splitlines()
    assert written[0] == real[0]
    records = pd.read_csv(cohort / "record_list.csv", dtype=str)
    for row in records.itertuples():
        assert row.path == (
            f"files/p{row.subject_id[:4]}/p{row.subject_id}/s{row.study_id}/{row.study_id}"
        )
        assert len(row.subject_id) == len(row.study_id) == len(real[1].split(",")[0])
        assert (cohort / f"{row.path}.hea").is_file()
    pd.to_datetime(records["ecg_time"], format="%Y-%m-%d %H:%M:%S")
    assert records["study_id"].is_unique
    assert set(records.groupby("subject_id").size()) == {1, 2, 3}
    assert len(paths_in(cohort)) == len(records)


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # importing wfdb under pandas 3
def test_wfdb_reads_the_records_and_their_checksums(cohort):
    wfdb = importlib.import_module("wfdb")
    for path in paths_in(cohort)[:10]:
        record = wfdb.rdrecord(path, physical=False)
        assert record.sig_name == MIMIC_LEADS
        assert (record.fs, record.sig_len, record.fmt) == (500, 5000, ["16"] * 12)
        assert record.adc_gain == [200.0] * 12
        assert record.calc_checksum() == [c % 65_536 for c in record.checksum]
        assert list(record.d_signal[0]) == record.init_value
        assert read_recording(path).leads == tuple(record.sig_name)
        assert np.allclose(read_recording(path).signal_mv, record.d_signal.T / 200)


def test_stored_leads_obey_goldberger_by_name(cohort):
    recording = read_recording(paths_in(cohort)[0])
    lead = dict(zip(recording.leads, recording.signal_mv, strict=True))
    assert np.abs(lead["aVF"] - (lead["II"] + lead["III"]) / 2).max() < 0.0101
    assert np.abs(lead["aVL"] - (lead["I"] - lead["III"]) / 2).max() < 0.0101
    assert np.abs(lead["aVF"] - lead["aVL"]).max() > 0.1


def test_same_seed_same_bytes(cohort, tmp_path):
    write_simulated_cohort(tmp_path / "again", 120, seed=7)
    assert _contents(tmp_path / "again") == _contents(cohort)
    write_simulated_cohort(tmp_path / "other", 3, seed=8)
    assert not set(_contents(tmp_path / "other")) & set(paths_in(cohort))


def test_metadata_leads_to_risks(cohort):
    metadata = read_table(cohort / "metadata.csv")
    assert list(metadata.columns) == COLUMNS
    assert metadata["subject_id"].is_unique
    assert set(metadata["sex"]) == {"male", "female"}
    assert set(metadata["smoker"].dropna()) == {"0", "1"}
    assert set(metadata["provenance"]) == {"simulated"}
    assert metadata[["age", "sex"]].notna().all(axis=None)
    gaps = metadata[["smoker", "sbp_mmhg", "total_chol_mmol_l", "hdl_mmol_l"]].isna()
    assert 0.002 < gaps.mean(axis=None) < 0.06
    risks = compute_risk_table(metadata, region="moderate")
    known = risks["risk"].notna()
    assert known.mean() > 0.75
    assert set(risks["score"]) == {"", "SCORE2", "SCORE2-OP", "SCORE2-Diabetes"}
    correlation = np.corrcoef(metadata["age"][known].astype(float), np.log(risks["risk"][known]))
    assert correlation[0, 1] > 0.5


def test_a_folder_in_use_is_left_alone(cohort):
    before = _contents(cohort)
    with pytest.raises(CohortError, match=f"{cohort} is not empty. Remove it or choose"):
        write_simulated_cohort(cohort, 3, seed=0)
    assert _contents(cohort) == before
    with pytest.raises(CohortError, match="at least 1"):
        write_simulated_cohort(cohort.parent / "none", 0, seed=0)


def _command(*arguments):
    return [sys.executable, ROOT / "tools" / "simulate_cohort.py", *map(str, arguments)]


ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}


def test_killed_run_leaves_no_half_cohort_and_the_next_one_works(tmp_path):
    out = tmp_path / "cohort"
    process = subprocess.Popen(
        _command("--out", out, "--patients", 20_000), env=ENVIRONMENT, stderr=subprocess.DEVNULL
    )
    wait_for(lambda: list(tmp_path.rglob("*.hea")), meanwhile=lambda: process.poll() is None)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    done = subprocess.run(
        _command("--out", out, "--patients", 5), env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "5 patients" in done.stdout
    assert sorted(os.listdir(tmp_path)) == [".cohort.lock", "cohort"]
    assert len(paths_in(out)) == len(pd.read_csv(out / "record_list.csv"))


def test_command_prints_errors_without_a_traceback(cohort):
    done = subprocess.run(
        _command("--out", cohort), env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.strip() == (
        f"simulate_cohort: {cohort} is not empty. Remove it or choose another folder."
    )


def _real_cohort(recordings, out):
    write_cohort_of_recordings(recordings, out, seed=0)
    assert sorted(os.listdir(out)) == ["metadata.csv", "record_list.csv"]
    records = pd.read_csv(out / "record_list.csv", dtype=str)
    assert [str(recordings / path) for path in records["path"]] == paths_in(recordings)
    metadata = pd.read_csv(out / "metadata.csv", dtype=str).set_index("subject_id")
    assert set(metadata.index) == set(records["subject_id"])
    assert metadata.index.is_unique
    assert metadata["provenance"].str.endswith("; the rest synthetic").all()
    assert metadata[SYNTHETIC[:5]].notna().mean(axis=None) > 0.9
    return records, metadata


def test_ptb_xl_keeps_patients_ages_and_sexes(real_data, tmp_path, caplog):
    with caplog.at_level("WARNING", logger="absl"):
        records, metadata = _real_cohort(real_data / "ptb-xl" / "records500", tmp_path)
    assert "SYNTHETIC" in caplog.text
    table = pd.read_csv(real_data / "ptb-xl" / "ptbxl_database.csv")
    patient = {
        os.path.relpath(path, "records500"): str(int(number))
        for path, number in zip(table["filename_hr"], table["patient_id"], strict=True)
    }
    assert dict(zip(records["path"], records["subject_id"], strict=True)) == patient
    first = table.sort_values("filename_hr").drop_duplicates("patient_id")
    for row in first.itertuples():
        person = metadata.loc[str(int(row.patient_id))]
        assert person["sex"] == ("female" if row.sex else "male")
        # 300 stands for "over 89" and is no age.
        if np.isnan(row.age) or row.age == 300:
            assert pd.isna(person["age"])
        else:
            assert float(person["age"]) == row.age


def test_ludb_ages_and_sexes_come_from_its_table(real_data, tmp_path):
    records, metadata = _real_cohort(real_data / "ludb", tmp_path)
    table = pd.read_csv(real_data / "ludb" / "ludb.csv", dtype=str)
    assert len(records) == len(metadata) == 135
    for number, sex, age in zip(table["ID"], table["Sex"], table["Age"], strict=True):
        if f"ludb/{number}" in metadata.index:
            person = metadata.loc[f"ludb/{number}"]
            assert person["sex"] == {"M": "male", "F": "female"}[sex.strip()]
            assert (str(person["age"]) == age.strip()) or (
                pd.isna(person["age"]) and not age.strip().isdigit()
            )


def test_challenge_ages_and_sexes_come_from_headers(real_data, tmp_path):
    records, metadata = _real_cohort(real_data / "challenge-2021", tmp_path)
    assert list(records["subject_id"]) == list(records["path"])
    for path in records["path"]:
        header = (real_data / "challenge-2021" / f"{path}.hea").read_text()
        person = metadata.loc[path]
        assert f"# Age: {person['age']}\n" in header
        assert f"# Sex: {person['sex'].capitalize()}\n" in header


def test_unreadable_headers_stay_listed(real_data, tmp_path, caplog):
    source = real_data / "challenge-2021" / "cpsc_2018"
    name = sorted(source.glob("*.hea"))[0].stem
    folder = tmp_path / "records"
    folder.mkdir()
    for path in source.glob(f"{name}.*"):
        (folder / path.name).symlink_to(path)
    (folder / "broken.hea").write_text("not a header\n")
    with caplog.at_level("WARNING", logger="absl"):
        _, metadata = _real_cohort(folder, tmp_path / "out")
    assert "broken.hea" in caplog.text
    assert pd.isna(metadata.loc["broken", "age"])
    assert pd.notna(metadata.loc[name, "age"])


def test_folder_without_recordings_is_named(tmp_path):
    with pytest.raises(CohortError, match=f"No recording found in {tmp_path}"):
        write_cohort_of_recordings(tmp_path, tmp_path / "out", seed=0)
    assert not (tmp_path / "out").exists()
