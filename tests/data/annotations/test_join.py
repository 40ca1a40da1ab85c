import numpy as np
import pandas as pd
import pytest

from clef_jax.data.annotations.join import MetadataTable, RiskTable, join_metadata, join_risk
from clef_jax.tables.columns import TableError

FOLDER = "/data/records"


def listed(record, patient=None, study=None):
    return pd.DataFrame({"record": record, "patient": patient, "study": study})


def risks(tmp_path, records, key=None, **columns):
    path = str(tmp_path / "risk.csv")
    pd.DataFrame(columns).to_csv(path, index=False)
    joined, found = join_risk(records, RiskTable(path, key), FOLDER)
    assert found == joined["risk"].notna().sum()
    return joined["risk"].tolist()


THREE = listed(["a/1", "a/2", "a/3"], ["p1", "p2", "p3"])
NUMBERED = {"id": [3, 77, 78], "subject_id": ["p1", "p2", "p3"], "risk": [1, 2, 3]}


def test_no_patient_gets_the_risk_of_another(tmp_path):
    with pytest.raises(TableError) as error:
        risks(tmp_path, THREE, **NUMBERED)
    for part in ("risk.csv", "record a/3 fits subject_id 'p3' in row 3 as patient",
                 "id '3' in row 1 as path", "--risk_key_column"):  # fmt: skip
        assert part in str(error.value)
    assert risks(tmp_path, THREE, "subject_id", **NUMBERED) == [1, 2, 3]
    np.testing.assert_array_equal(risks(tmp_path, THREE, "id", **NUMBERED), [np.nan, np.nan, 1])


def test_the_key_that_finds_most_is_taken(tmp_path):
    columns = {"id": [77, 78, 3], "subject_id": ["p1", "p2", "p3"], "risk": [1, 2, 3]}
    assert risks(tmp_path, THREE, **columns) == [1, 2, 3]


def test_rows_that_agree_do_not_contradict(tmp_path):
    assert risks(tmp_path, THREE, **NUMBERED | {"risk": [5, 5, 5]}) == [5, 5, 5]


def test_visits_of_a_patient_are_told_apart_by_path(tmp_path):
    visits = listed(["a/1", "a/2", "b/1"], ["p", "p", "q"], ["s1", "s2", "s3"])
    columns = {"subject_id": ["q", "p", "p"], "study_id": ["s3", "s2", "s1"], "risk": [3, 2, 1]}
    assert risks(tmp_path, visits, path=["b/1", "a/2", "a/1"], **columns) == [1, 2, 3]
    # Not all paths: the patients find more, but not which visit.
    found = risks(tmp_path, visits, path=["b/1", "a/2", "elsewhere/7"], subject_id=["q", "p", "p"],
                  risk=[3, 2, 1])  # fmt: skip
    np.testing.assert_array_equal(found, [np.nan, 2, 3])
    with pytest.raises(TableError, match="subject_id 'p' has rows that differ"):
        risks(tmp_path, visits, subject_id=["q", "p", "p"], risk=[3, 2, 1])


def test_a_path_of_another_patient_is_refused_among_visits(tmp_path):
    visits = listed(["a/1", "a/2"], ["p", "q"])
    columns = {"id": [2, 70, 71], "subject_id": ["p", "p", "q"], "risk": [1, 2, 3]}
    with pytest.raises(TableError, match="a/2 fits id '2' in row 1 as path, subject_id 'q' in row"):
        risks(tmp_path, visits, **columns)


def test_a_named_column_is_what_its_name_says(tmp_path):
    # Every patient's number is also the name of another patient's record.
    crossed = listed(["a/1", "a/2", "a/3"], ["2", "3", "1"])
    columns = {"subject_id": [1, 2, 3], "risk": [10, 20, 30]}
    assert risks(tmp_path, crossed, **columns) == [20, 30, 10]
    assert risks(tmp_path, crossed, "subject_id", **columns) == [20, 30, 10]
    for name in ("id", "number"):
        renamed = {name: columns["subject_id"], "risk": columns["risk"]}
        with pytest.raises(TableError, match=f"fits {name} '1' in row 1 as path, {name} '2' in ro"):
            risks(tmp_path, crossed, name, **renamed)
    # Records named after their patients, whom no list names.
    unknown = listed(["1", "2", "3"])
    assert risks(tmp_path, unknown, "subject_id", **columns) == [10, 20, 30]


@pytest.mark.parametrize(
    ("given", "rows"),
    [
        (["x/1", "x/2", "y/1"], [0, 1, 2]),
        (["records/x/1", "data/records/x/2", "/data/records/y/1.hea"], [0, 1, 2]),
        (["/elsewhere/x/1", "/elsewhere/x/2.dat", "elsewhere\\y\\1"], [0, 1, 2]),
        # The longest end that fits, whatever the order of the rows.
        (["1", "x/2", "y/1"], [0, 1, 2]),
        (["2", "y/1", "other/records/x/1"], [-1, 0, 1]),
    ],
)
def test_paths_counted_from_anywhere(tmp_path, given, rows):
    found = risks(tmp_path, listed(["x/1", "x/2", "y/1"]), path=given, risk=[0, 1, 2])
    np.testing.assert_array_equal(np.nan_to_num(found, nan=-1), rows)


def test_missing_values_are_equal_to_each_other(tmp_path):
    path = str(tmp_path / "m.csv")
    pd.DataFrame({"patient": ["p", "p", "q"], "age": [None, None, 5], "sex": ["", "", "M"]}).to_csv(
        path, index=False
    )
    joined, found = join_metadata(listed(["1", "2"], ["p", "q"]), MetadataTable(path), FOLDER)
    assert found == 2 and pd.isna(joined["sex"][0]) and joined["sex"][1] == "male"
    np.testing.assert_array_equal(joined["age"], [np.nan, 5])


RISKS_AS_WRITTEN = [("1,5", 1.5), ("5%", 5.0), ("5 %", 5.0), ("3.25", 3.25), ("", np.nan),
                    ("nan", np.nan), ("unknown", np.nan)]  # fmt: skip


@pytest.mark.parametrize(("text", "percent"), RISKS_AS_WRITTEN)
def test_risks_are_read_as_people_write_them(tmp_path, text, percent):
    path = tmp_path / "risk.csv"
    path.write_text(f'record,risk\na,"{text}"\n')
    records = pd.DataFrame({"record": ["a"], "patient": None, "study": None})
    joined, found = join_risk(records, RiskTable(str(path)), str(tmp_path))
    assert found == 1
    np.testing.assert_array_equal(joined["risk"], np.float32([percent]))


@pytest.mark.parametrize("text", ["abc", "inf", "-inf", "1e400", "1.5.2", "-3", "101", "5 mmol"])
@pytest.mark.parametrize("column", ["risk", "completeness"])
def test_a_risk_that_cannot_be_read_is_an_error_and_not_unknown(tmp_path, text, column):
    path = tmp_path / "risk.csv"
    good = {"risk": "3", "completeness": "1"}
    lines = [",".join(["record", *good])]
    for record, row in (("a", good), ("b", good | {column: text})):
        lines.append(",".join([record, *row.values()]))
    path.write_text("\n".join(lines))
    records = pd.DataFrame({"record": ["a", "b"], "patient": None, "study": None})
    with pytest.raises(TableError, match=f"risk.csv: column '{column}' holds '{text}' in row 2"):
        join_risk(records, RiskTable(str(path)), str(tmp_path))


def test_ages_and_sexes_that_cannot_be_read_are_said(tmp_path, caplog):
    path = tmp_path / "people.csv"
    path.write_text("record,age,sex\na,63,M\nb,sixty,X\nc,,\n")
    records = pd.DataFrame({"record": ["a", "b", "c"], "patient": None, "study": None})
    with caplog.at_level("WARNING"):
        joined, _ = join_metadata(records, MetadataTable(str(path)), str(tmp_path))
    assert "column 'age': 1 values are not understood" in caplog.text and "'sixty'" in caplog.text
    assert "column 'sex': 1 values are not understood" in caplog.text and "'X'" in caplog.text
    np.testing.assert_array_equal(joined["age"], np.float32([63, np.nan, np.nan]))
