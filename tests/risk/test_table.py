"""Risk tables from patient tables: choice of score, reasons, units, columns, the command."""

import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from clef_jax.risk import score2, score2_diabetes, score2_op
from clef_jax.risk.table import compute_risk_table, report
from clef_jax.tables.columns import TableError
from clef_jax.tables.files import read_table, write_table

ROOT = pathlib.Path(__file__).resolve().parents[2]

# SCORE2, SCORE2-OP and SCORE2-Diabetes vectors with published results.
MAN_55 = {"age": 55, "sex": "M", "smoker": 0, "sbp": 140, "total_chol": 5.5, "hdl": 1.3}
PATIENTS = [
    MAN_55 | {"subject_id": 1, "diabetes": 0},
    MAN_55 | {"subject_id": 2, "diabetes": 0, "age": 75, "sex": "female", "smoker": 1},
    MAN_55
    | {"subject_id": 3, "diabetes": 1, "age": 65, "sbp": 160, "total_chol": 6.5, "hdl": 1.0}
    | {"age_at_diagnosis": 40, "hba1c": 64, "egfr": 60},
]


def _computed(rows, **options):
    return compute_risk_table(pd.DataFrame(rows), region="low", **options)


def test_each_patient_gets_the_score_of_age_and_diabetes():
    risks = _computed(PATIENTS)
    assert list(risks["subject_id"]) == [1, 2, 3]
    assert list(risks["score"]) == ["SCORE2", "SCORE2-OP", "SCORE2-Diabetes"]
    assert np.allclose(risks["risk"], [4.4534, 15.1580, 21.2899], atol=5.1e-5)
    assert list(risks["missing"]) == [0, 0, 0]
    assert list(risks["attributes"]) == [7, 7, 10]
    assert list(risks["completeness"]) == [1, 1, 1]
    assert list(risks["reason"]) == ["", "", ""]


def test_old_patients_with_diabetes_get_the_diabetes_term_of_op():
    risks = _computed([PATIENTS[1] | {"diabetes": 1}])
    expected = score2_op(75, 0, 1, 140, 5.5, 1.3, diabetes=1, region="low")
    assert risks["risk"][0] == expected > 15.2
    assert risks["reason"][0] == ""


@pytest.mark.parametrize(
    ("age", "score"),
    [(39.9, ""), (40, "SCORE2"), (69.9, "SCORE2"), (70, "SCORE2-OP"), (89.9, "SCORE2-OP")]
    + [(90, ""), (300, "")],
)
def test_ages_at_the_borders(age, score):
    row = _computed([PATIENTS[0] | {"age": age}]).iloc[0]
    assert row["score"] == score
    assert np.isnan(row["risk"]) == (score == "")
    if not score:
        assert row["reason"] == f"age '{age}' out of range (40 to 89 years)"
        assert row["missing"] == 0


@pytest.mark.parametrize(
    ("change", "reason", "missing"),
    [
        ({"sbp": None}, "sbp missing", 1),
        ({"sex": "U"}, "sex 'U' not understood", 1),
        ({"smoker": "maybe"}, "smoker 'maybe' not understood", 1),
        ({"diabetes": None}, "diabetes missing", 1),
        ({"age": None, "hdl": None}, "age missing; hdl missing", 2),
        ({"sbp": 20}, "sbp '20' out of range (50 to 300 mmHg)", 0),
        ({"total_chol": 55}, "total_chol '55.0' out of range (1 to 20 mmol/L)", 0),
        ({"sbp": None, "hdl": -1}, "sbp missing; hdl '-1.0' out of range (0.1 to 6 mmol/L)", 1),
        ({"total_chol": float("inf")}, "total_chol 'inf' not understood", 1),
    ],
)
def test_unusable_patients_get_nan_and_the_reason(change, reason, missing):
    rows = [PATIENTS[0] | {"sex": "M"}, PATIENTS[0] | change, PATIENTS[0], PATIENTS[0]]
    risks = _computed(rows)
    assert np.array_equal(np.isnan(risks["risk"]), [False, True, False, False])
    assert risks["score"][1] == ""
    # One None turns a column of integers into floats.
    assert risks["reason"][1].replace(".0'", "'") == reason.replace(".0'", "'")
    assert risks["missing"][1] == missing
    assert risks["completeness"][1] == (7 - missing) / 7


def test_diabetes_attributes_matter_only_to_score2_diabetes():
    bare = {"age_at_diagnosis": None, "hba1c": None, "egfr": None}
    risks = _computed([PATIENTS[2], PATIENTS[2] | bare, PATIENTS[0], PATIENTS[1] | {"diabetes": 1}])
    assert list(risks["missing"]) == [0, 3, 0, 0]
    assert list(risks["attributes"]) == [10, 10, 7, 7]
    assert risks["completeness"][1] == 0.7
    assert risks["reason"][1] == "age_at_diagnosis missing; hba1c missing; egfr missing"
    assert list(np.isnan(risks["risk"])) == [False, True, False, False]


def test_diagnosis_after_the_age_is_refused():
    risks = _computed([PATIENTS[2] | {"age_at_diagnosis": 67}])
    assert risks["reason"][0] == "age_at_diagnosis '67' after the age itself"


def test_assume_no_diabetes():
    row = {k: v for k, v in PATIENTS[0].items() if k != "diabetes"}
    with pytest.raises(TableError, match="no column for diabetes"):
        _computed([row])
    risks = _computed([row], assume_no_diabetes=True)
    assert risks["risk"][0] == pytest.approx(4.4534, abs=5.1e-5)
    assert risks["score"][0] == "SCORE2"


def test_usual_names_and_spellings_are_found():
    rows = pd.DataFrame(
        {
            "Subject ID": ["0007"],
            "path": ["files/a"],
            "anchor_age": ["55"],
            "Gender": [" Male "],
            "Smoking": ["former"],
            "Blood Pressure": ["140/85"],
            "Total Cholesterol": ["5.5"],
            "HDL": ["1.3"],
            "Diabetes": ["No"],
        }
    )
    risks = compute_risk_table(rows, region="low")
    assert list(risks.columns[:2]) == ["Subject ID", "path"]
    assert risks["Subject ID"][0] == "0007"
    assert risks["risk"][0] == pytest.approx(4.4534, abs=5.1e-5)


def test_columns_and_keys_are_mapped_by_option():
    row = {("years" if k == "age" else "who" if k == "subject_id" else k): v
           for k, v in PATIENTS[0].items()}  # fmt: skip
    with pytest.raises(TableError, match=r"t\.csv lacks the key column.*who.*--keys"):
        _computed([row], source="t.csv")
    with pytest.raises(TableError, match=r"t\.csv has no column for age.*years.*--age_column"):
        _computed([row], keys=["who"], source="t.csv")
    with pytest.raises(TableError, match=r"t\.csv has no column 'yrs'.*--age_column.*years"):
        _computed([row], keys=["who"], columns={"age": "yrs"}, source="t.csv")
    risks = _computed([row], keys=["who"], columns={"age": "years"})
    assert risks["who"][0] == 1
    assert risks["risk"][0] == pytest.approx(4.4534, abs=5.1e-5)


@pytest.mark.parametrize("zero_one", [(0, 1), (0.0, 1.0), ("0", "1")])
def test_numeric_sex_needs_a_coding(zero_one):
    rows = [PATIENTS[0] | {"sex": code} for code in zero_one]
    with pytest.raises(TableError, match=r"t\.csv: column 'sex'.*--sex_coding=male0_female1"):
        _computed(rows, source="t.csv")
    man, woman = _computed(rows, sex_coding="male0_female1")["risk"]
    assert man == pytest.approx(4.4534, abs=5.1e-5)
    assert woman == float(score2(55, 0, 0, 140, 5.5, 1.3, region="low"))
    assert list(_computed(rows, sex_coding="male1_female0")["risk"]) == [woman, man]


def test_units_are_converted():
    american = PATIENTS[2] | {
        "total_chol": 6.5 * 38.67,
        "hdl": 38.67,
        "hba1c": 64 / 10.929 + 2.15,
    }
    risks = _computed([american], chol_units="mg/dL", hba1c_units="%")
    assert risks["risk"][0] == pytest.approx(21.2899, abs=5.1e-5)


@pytest.mark.parametrize(
    ("change", "options", "remedy"),
    [
        ({"total_chol": 200}, {}, "looks like mg/dL. Set --chol_units=mg/dL"),
        ({"hdl": 50}, {}, "median HDL.*Set --chol_units=mg/dL"),
        ({}, {"chol_units": "mg/dL"}, "looks like mmol/L. Set --chol_units=mmol/L"),
        ({"hba1c": 7.2}, {}, "looks like percent. Set --hba1c_units=%"),
        ({}, {"hba1c_units": "%"}, "looks like mmol/mol. Set --hba1c_units=mmol/mol"),
        ({"sbp": 18.6}, {}, "looks like kPa"),
    ],
)
def test_wrong_units_are_refused(change, options, remedy):
    with pytest.raises(TableError, match=f"t.csv: .*{remedy}"):
        _computed([PATIENTS[2] | change], source="t.csv", **options)


def test_one_value_in_other_units_costs_only_its_row():
    risks = _computed([PATIENTS[0]] * 5 + [PATIENTS[0] | {"total_chol": 210.0}])
    assert np.isnan(risks["risk"]).sum() == 1
    assert risks["reason"][5] == "total_chol '210.0' out of range (1 to 20 mmol/L)"


def _large(rows):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "subject_id": np.arange(rows) + 10_000_000,
            "age": rng.integers(30, 95, rows),
            "sex": rng.choice(["M", "F"], rows),
            "smoker": rng.integers(0, 2, rows),
            "sbp": rng.normal(140, 20, rows).round(),
            "total_chol": rng.normal(5.5, 1, rows).round(2),
            "hdl": rng.uniform(0.8, 2.2, rows).round(2),
            "diabetes": rng.integers(0, 2, rows),
            "age_at_diagnosis": rng.integers(20, 40, rows),
            "hba1c": rng.uniform(35, 90, rows).round(),
            "egfr": rng.uniform(40, 110, rows).round(),
        }
    )
    return table.mask(rng.random(table.shape) < 0.02).assign(subject_id=table["subject_id"])


@pytest.mark.slow
def test_200_000_rows_take_seconds_and_agree_with_the_formulas():
    table = _large(200_000)
    start = time.process_time()
    risks = compute_risk_table(table, region="high")
    assert time.process_time() - start < 10
    assert set(risks["score"]) == {"", "SCORE2", "SCORE2-OP", "SCORE2-Diabetes"}
    assert np.array_equal(np.isnan(risks["risk"]), risks["reason"] != "")
    assert np.array_equal(np.isnan(risks["risk"]), risks["score"] == "")
    for name, formula, extra in (
        ("SCORE2", score2, ()),
        ("SCORE2-Diabetes", score2_diabetes, ("age_at_diagnosis", "hba1c", "egfr")),
    ):
        rows = table[risks["score"] == name]
        assert rows["age"].between(40, 69).all()
        expected = formula(
            rows["age"], rows["sex"] == "M", rows["smoker"], rows["sbp"], rows["total_chol"],
            rows["hdl"], *(rows[column] for column in extra), region="high",
        )  # fmt: skip
        assert np.array_equal(risks["risk"][rows.index], expected)


@pytest.mark.parametrize("extension", ["csv", "parquet"])
def test_command_reads_and_writes_both_formats(tmp_path, extension):
    metadata, out = tmp_path / f"patients.{extension}", tmp_path / f"risk.{extension}"
    table = pd.DataFrame([*PATIENTS, PATIENTS[0] | {"subject_id": 4, "sbp": None}])
    write_table(table, metadata)
    done = _run("--metadata", metadata, "--out", out, "--region", "low")
    assert done.returncode == 0, done.stderr
    assert "4 rows" in done.stdout
    assert "sbp missing" in done.stdout
    risks = read_table(out)
    assert [int(i) for i in risks["subject_id"]] == [1, 2, 3, 4]
    assert np.allclose(
        risks["risk"].astype(float), [4.4534, 15.158, 21.2899, np.nan], atol=1e-4, equal_nan=True
    )
    found = {name for name in os.listdir(tmp_path) if not name.endswith(".lock")}
    assert found == {metadata.name, out.name}


def test_command_names_file_column_and_option(tmp_path):
    metadata, out = tmp_path / "patients.csv", tmp_path / "risk.csv"
    pd.DataFrame(PATIENTS).rename(columns={"hdl": "good_chol"}).to_csv(metadata, index=False)
    out.write_text("earlier result\n")
    done = _run("--metadata", metadata, "--out", out)
    assert done.returncode == 1
    for part in (str(metadata), "hdl", "good_chol", "--hdl_column"):
        assert part in done.stderr
    assert "Traceback" not in done.stderr
    assert out.read_text() == "earlier result\n"


def _run(*arguments):
    return subprocess.run(
        [sys.executable, ROOT / "tools" / "compute_risk.py", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def test_unreadable_tables_name_the_file(tmp_path):
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 not really")
    empty = tmp_path / "empty.csv"
    empty.write_text("")
    for path in (broken, empty, tmp_path / "absent.csv", tmp_path / "table.xlsx"):
        with pytest.raises(TableError, match=path.name):
            read_table(path)


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    out = tmp_path / "risk.csv"
    out.write_text("old")

    def no_space(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", no_space)
    with pytest.raises(OSError, match="no space"):
        write_table(pd.DataFrame({"a": [1]}), out)
    assert os.listdir(tmp_path) == ["risk.csv"]
    assert out.read_text() == "old"


def test_report_counts_rows_scores_and_reasons():
    rows = [*PATIENTS, PATIENTS[0] | {"age": 33}, PATIENTS[0] | {"age": 21, "hdl": None}]
    text = report(_computed(rows))
    assert text.startswith("5 rows")
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "SCORE2 1" in lines
    assert "no risk (NaN) 2" in lines
    assert "2 age out of range (40 to 89 years)" in lines
    assert "1 hdl missing" in lines
    assert "median 15.16" in text.splitlines()[-1]
