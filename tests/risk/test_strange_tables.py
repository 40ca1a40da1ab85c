"""Tables as other people's programs write them: headers, words, numbers and files."""

import logging

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clef_jax.risk.table import compute_risk_table
from clef_jax.tables.columns import TableError, header_unit, quantities, yes_or_no
from clef_jax.tables.files import read_table

MAN_55 = {
    "subject_id": 1, "age": 55, "sex": "M", "smoker": 0, "sbp": 140, "total_chol": 5.5, "hdl": 1.3,
    "diabetes": 0,
}  # fmt: skip
# Published for this man in the region of low risk.
RISK = pytest.approx(4.4534, abs=5.1e-5)


def computed(rows, **options):
    return compute_risk_table(pd.DataFrame(rows), region="low", **options)


@pytest.mark.parametrize(
    ("header", "name", "unit"),
    [
        ("HDL-C (mg/dL)", "hdl_c", "mg/dL"),
        ("Systolic BP (mmHg)", "systolic_bp", "mmHg"),
        ("eGFR (mL/min/1.73m2)", "egfr", "mL/min/1.73 m2"),
        ("eGFR [ml/min/1.73 m²]", "egfr", "mL/min/1.73 m2"),
        ("HbA1c (%)", "hba1c", "%"),
        ("Total cholesterol [mmol/l]", "total_cholesterol", "mmol/L"),
        ("total_chol_mg_dl", "total_chol", "mg/dL"),
        ("chol_mgdl", "chol", "mg/dL"),
        ("sbp_mmhg", "sbp", "mmHg"),
        ("egfr_ml_min", "egfr", "mL/min/1.73 m2"),
        ("Age (years)", "age", "years"),
        ("SBP (sitting)", "sbp", None),
        ("SBP (kPa)", "sbp", "kPa"),
        ("Cholesterol (g/L)", "cholesterol", "g/L"),
        ("hdl", "hdl", None),
        ("years", "years", None),
    ],
)
def test_headers_carry_units(header, name, unit):
    assert header_unit(header) == (name, unit)


def test_units_in_headers_are_used_column_by_column():
    row = {
        "Patient ID": 1, "Age (years)": 55, "Gender": "male", "Smoking": "never",
        "Systolic BP (mmHg)": 140, "Total Cholesterol (mmol/L)": 5.5, "HDL-C (mg/dL)": 1.3 * 38.67,
        "Diabetes": "none",
    }  # fmt: skip
    assert computed([row])["risk"][0] == RISK
    with pytest.raises(TableError, match=r"'HDL-C \(mg/dL\)' says mg/dL, but --chol_units=mmol/L"):
        computed([row], chol_units="mmol/L")
    kpa = {("SBP (kPa)" if k.startswith("Sys") else k): v for k, v in row.items()}
    with pytest.raises(TableError, match=r"'SBP \(kPa\)' is in kPa; expected mmHg"):
        computed([kpa])


def test_a_range_is_told_in_the_unit_of_the_table():
    american = MAN_55 | {"total_chol": 5.5 * 38.67, "hdl": 1.3 * 38.67}
    risks = computed([american, american, american | {"total_chol": 5.6}], chol_units="mg/dL")
    assert risks["reason"][2] == "total_chol '5.6' out of range (38.7 to 773 mg/dL)"
    diabetic = MAN_55 | {"diabetes": 1, "age_at_diagnosis": 50, "egfr": 80}
    rows = [diabetic | {"hba1c": 7.0}] * 2 + [diabetic | {"hba1c": 64}]
    risks = computed(rows, hba1c_units="%")
    assert risks["reason"][2] == "hba1c '64.0' out of range (3.52 to 20.4 %)"


def test_all_missing_columns_are_named_at_once():
    row = {k: v for k, v in MAN_55.items() if k not in ("age", "sbp", "hdl")}
    with pytest.raises(TableError) as error:
        computed([row], source="t.csv")
    for part in ("t.csv", "age", "sbp", "hdl", "--age_column", "--sbp_column", "--hdl_column"):
        assert part in str(error.value)


def test_absent_columns_of_diabetes_are_said(caplog):
    with caplog.at_level(logging.WARNING):
        computed([MAN_55], source="t.csv")
        assert "t.csv has no column for age_at_diagnosis, hba1c, egfr" in caplog.text
        caplog.clear()
        computed([MAN_55], assume_no_diabetes=True)
        assert caplog.text == ""


@pytest.mark.parametrize(
    ("attribute", "meaning"),
    [
        ("smoker", {"ex-smoker": 0, "Ex smoker": 0, "Former": 0, "never smoker": 0, "Non-smoker": 0,
                    "nonsmoker": 0, "Current smoker": 1, "smoker": 1, "YES": 1, "1.0": 1,
                    "occasionally": np.nan}),
        ("diabetes", {"Type 2": 1, "type II": 1, "T2DM": 1, "diabetic": 1, "no diabetes": 0,
                      "None": 0, "No": 0, "Type 1": np.nan, "prediabetes": np.nan}),
    ],
)  # fmt: skip
def test_words_of_patient_records(attribute, meaning):
    found = yes_or_no(pd.Series(list(meaning), dtype="string"), attribute)
    np.testing.assert_array_equal(found, list(meaning.values()))


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [
        (["1,5", "12,25", "7"], [1.5, 12.25, 7]),
        (["1,500", "2,750"], [np.nan, np.nan]),  # Thousands or decimals: nobody can know.
        (["1,500", "2,75"], [1.5, 2.75]),
        (["0,500", "0,125"], [0.5, 0.125]),
        (["1,5", "2.5"], [np.nan, 2.5]),
        (["1,234,567", "1,5"], [np.nan, np.nan]),
        (["135/80", "140/90"], [135, 140]),
        (["inf", "-inf", "abc", "", None], [np.nan] * 5),
    ],
)
def test_decimal_commas_are_read_where_nothing_else_can_be_meant(texts, numbers):
    np.testing.assert_array_equal(quantities(pd.Series(texts, dtype="string")), numbers)


def german(separator):
    header = ["subject_id", "age", "sex", "smoker", "sbp", "total_chol", "hdl", "diabetes"]
    row = ["007", "55", "M", "0", "140", "5,5", "1,3", "0"]
    return f"{separator.join(header)}\n{separator.join(row)}\n"


@pytest.mark.parametrize(("name", "separator"), [("t.csv", ";"), ("t.txt", "\t"), ("t.tsv", "\t")])
def test_semicolons_tabs_and_decimal_commas(tmp_path, name, separator):
    path = tmp_path / name
    path.write_text("\ufeff" + german(separator), encoding="utf-8")
    table = read_table(path)
    assert table["subject_id"][0] == "007"
    assert compute_risk_table(table, region="low")["risk"][0] == RISK


def test_excel_sheets_keep_ids(tmp_path):
    path = tmp_path / "patients.xlsx"
    pd.DataFrame([{k: str(v) for k, v in (MAN_55 | {"subject_id": "007"}).items()}]).to_excel(
        path, index=False
    )
    table = read_table(path)
    assert table["subject_id"][0] == "007"
    assert compute_risk_table(table, region="low")["risk"][0] == RISK
    numbers = tmp_path / "numbers.xlsx"
    pd.DataFrame([MAN_55]).to_excel(numbers, index=False)
    assert compute_risk_table(read_table(numbers), region="low")["risk"][0] == RISK
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(TableError, match="patients.xlsx cannot be read"):
        read_table(path)


def test_rows_of_one_patient_that_differ_and_rows_of_nobody_are_said(caplog):
    rows = [MAN_55, MAN_55, MAN_55 | {"sbp": 180}, MAN_55 | {"subject_id": None}]
    with caplog.at_level(logging.WARNING):
        risks = computed(rows, source="t.csv")
    assert "t.csv: 2 rows say something else of subject_id 1" in caplog.text
    assert "t.csv: 1 rows name nobody in subject_id, such as row 4" in caplog.text
    assert len(risks) == 4
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        computed([MAN_55, MAN_55, MAN_55 | {"subject_id": 2}], assume_no_diabetes=True)
    assert caplog.text == ""


@pytest.mark.parametrize("extension", ["csv", "tsv", "xlsx", "parquet"])
def test_of_two_columns_of_one_name_neither_is_taken(tmp_path, extension):
    path = tmp_path / f"table.{extension}"
    twice = pd.DataFrame([[1, 55, 56]], columns=["id", "age", "age"])
    if extension == "parquet":
        arrays = [pa.array([1]), pa.array([55]), pa.array([56])]
        pq.write_table(pa.table(arrays, names=["id", "age", "age"]), path)
    else:
        _write_as(twice, path)
    with pytest.raises(TableError, match=f"table.{extension}: two columns 'age'; rename"):
        read_table(path)


def test_a_name_that_pandas_takes_for_none_is_one(tmp_path):
    (tmp_path / "t.csv").write_text("id,NA,NA,,\n1,2,3,4,5\n")
    with pytest.raises(TableError, match="two columns 'NA'; rename"):
        read_table(tmp_path / "t.csv")


@pytest.mark.parametrize("extension", ["csv", "tsv", "xlsx", "parquet"])
def test_names_that_look_like_a_second_ones_are_names(tmp_path, extension):
    path = tmp_path / f"table.{extension}"
    table = pd.DataFrame([["1", "2", "3"]], columns=["V", "V.1", "V.2"])
    table.to_parquet(path) if extension == "parquet" else _write_as(table, path)
    assert read_table(path).to_dict("list") == {"V": ["1"], "V.1": ["2"], "V.2": ["3"]}


def _write_as(table, path):
    if path.suffix == ".xlsx":
        table.to_excel(path, index=False)
    else:
        table.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
