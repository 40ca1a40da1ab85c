"""Shards joined with what tables say of records."""

import numpy as np
import pandas as pd
import pytest

from clef_jax.data.annotations.join import MetadataTable, RiskTable, join_metadata
from clef_jax.data.shards.listing import list_recordings
from clef_jax.data.shards.store import ShardSet
from clef_jax.tables.columns import TableError
from tests.shard_records import ecg, mimic_name, write, write_record


def test_record_list_names_patients_and_studies(mimic, tmp_path):
    report = write(mimic, tmp_path / "out", record_list=str(mimic / "record_list.csv"))
    shards = ShardSet(tmp_path / "out")
    assert report.recordings == 24 and report.patients == 12 and not report.patients_from_records
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
    report = write(mimic, tmp_path / "out", record_list=str(mimic / "record_list.csv"),
                    risk=RiskTable(str(tmp_path / "risk.parquet")))  # fmt: skip
    expected = dict(zip(table[key], table["risk"], strict=True))
    shards = ShardSet(tmp_path / "out")
    index = listed.set_index("path").loc[list(shards.record)].reset_index()
    known = shards.annotations.columns
    np.testing.assert_array_equal(known["risk"], index[key].map(expected).to_numpy(np.float32))
    assert (known["completeness"] == 0.75).all()
    assert report.matches == {"risk": 24}
    assert report.risk_known == np.isfinite(known["risk"]).sum() < 24


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
    known = shards.annotations.columns
    np.testing.assert_allclose(known["risk"], np.linspace(0, 20, 24), rtol=1e-6)
    np.testing.assert_allclose(known["completeness"], 0.8, rtol=1e-6)
    np.testing.assert_array_equal(known["age"], np.arange(40, 64))
    np.testing.assert_array_equal(known["male"], [1, 0] * 12)
    assert set(shards.patient) == set(listed["subject_id"])


def test_ptb_xl_table(real_data):
    folder = str(real_data / "ptb-xl/records500")
    listing = list_recordings(folder)
    metadata = MetadataTable(str(real_data / "ptb-xl/ptbxl_database.csv"))
    joined, found = join_metadata(listing.records, metadata, folder)
    assert found == len(joined) == 333 and not listing.rejected
    oracle = pd.read_csv(real_data / "ptb-xl/ptbxl_database.csv").set_index("filename_hr")
    oracle = oracle.loc[["records500/" + name for name in joined["record"]]]
    assert list(joined["patient"]) == [str(int(p)) for p in oracle["patient_id"]]
    assert list(joined["sex"]) == [("male", "female")[s] for s in oracle["sex"]]
    age = oracle["age"].where(oracle["age"] <= 120).to_numpy(np.float32)
    np.testing.assert_array_equal(joined["age"], age)


def test_ludb_table(real_data):
    folder = str(real_data / "ludb/data")
    records = list_recordings(folder).records
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
    np.testing.assert_array_equal(shards.annotations.columns["age"], [np.nan, 51])
    np.testing.assert_array_equal(shards.annotations.columns["male"], [0, np.nan])
    with pytest.raises(TableError, match="no column 'Falll'; found Fall, Person"):
        write(tmp_path / "records", tmp_path / "out2",
              metadata=MetadataTable(str(tmp_path / "m.csv"), "Falll"))  # fmt: skip
