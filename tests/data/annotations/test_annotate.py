"""Annotations of a run: those of the shards, and tables over them."""

import hashlib

import numpy as np
import pandas as pd
import pytest

from clef_jax.data.annotations.annotations import AnnotationError, Annotations
from clef_jax.data.annotations.join import annotate, table_paths
from clef_jax.data.annotations.splits import is_validation_patient
from clef_jax.data.annotations.values import numbers_or_text
from clef_jax.tables.columns import TableError

# Two windows of one record, a second visit, and another patient.
ROWS = pd.DataFrame(
    {
        "record": ["p/1", "p/1", "p/2", "q/1"],
        "patient": ["10", "10", "10", "11"],
        "study": ["501", "501", "502", None],
    }
)


def default():
    columns = {"risk": [1, 1, 2, np.nan], "completeness": [0.5, 0.5, 1, np.nan],
               "age": [50, 50, 51, 60], "male": [1, 1, 1, np.nan]}  # fmt: skip
    return Annotations(
        {name: np.array(values, np.float32) for name, values in columns.items()},
        np.array([False, False, False, True]),
    )


@pytest.fixture
def table(tmp_path):
    def write(name, **columns):
        path = tmp_path / name
        frame = pd.DataFrame(columns)
        frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_csv(path, index=False)
        return str(path)

    return write


def require_columns(found, **expected):
    for name, values in expected.items():
        np.testing.assert_array_equal(found.columns[name], values, err_msg=name)


def test_without_tables_everything_is_as_the_shards_have_it():
    found = annotate(default(), ROWS, needed=["risk"])
    names = ["risk", "completeness", "age", "male"]
    assert found.fingerprints(names) == default().fingerprints(names)


@pytest.mark.parametrize(
    ("key", "values", "risk"),
    [
        ("path", ["/somewhere/q/1.hea", "/somewhere/p/2.hea"], [np.nan, np.nan, 8, 7]),
        ("study_id", ["502", "501"], [8, 8, 7, np.nan]),
        ("subject_id", ["11", "10"], [8, 8, 8, 7]),
    ],
)
def test_a_table_is_keyed_by_record_study_or_patient(table, key, values, risk):
    found = annotate(default(), ROWS, [table("r.csv", **{key: values, "risk": [7, 8]})])
    require_columns(found, risk=np.float32(risk), age=[50, 50, 51, 60])
    assert found.columns["risk"].dtype == np.float32


def test_a_column_is_that_of_the_last_table_that_has_it(table):
    first = table("first.csv", patient=["10", "11"], risk=[5, 6], sex=["F", "M"])
    last = table("last.csv", patient=["10"], risk=[9], completeness=[0.25])
    found = annotate(default(), ROWS, [first, last])
    require_columns(
        found,
        risk=[9, 9, 9, np.nan],
        completeness=[0.25, 0.25, 0.25, np.nan],
        male=[0, 0, 0, 1],
        age=[50, 50, 51, 60],
    )
    require_columns(annotate(default(), ROWS, [last, first]), risk=[5, 5, 5, 6])


def test_a_table_of_risks_leaves_no_completeness_of_others(table):
    alone = table("risk.csv", patient=["10", "11"], risk=[5, 6])
    require_columns(
        annotate(default(), ROWS, [alone]), risk=[5, 5, 5, 6], completeness=[np.nan] * 4
    )
    both = table("both.csv", patient=["10", "11"], risk=[7, 8], completeness=[0.25, 0.5])
    require_columns(annotate(default(), ROWS, [both, alone]), completeness=[np.nan] * 4)
    of_these = table("completeness.csv", patient=["10", "11"], completeness=[0.25, 0.5])
    found = annotate(default(), ROWS, [alone, of_these])
    require_columns(found, risk=[5, 5, 5, 6], completeness=[0.25, 0.25, 0.25, 0.5])


def test_further_columns_are_taken_when_needed(table):
    path = table("more.parquet", record=["p/2", "p/1"], ef=[35, 60], report=["AF", None],
                 seen=["2001", "2002"])  # fmt: skip
    found = annotate(default(), ROWS, [path], needed=["ef", "report", "risk"])
    require_columns(found, ef=np.float32([60, 60, 35, np.nan]))
    assert found.columns["report"].tolist() == [None, None, "AF", None]
    assert found.columns.keys() == {"risk", "completeness", "age", "male", "ef", "report"}


def test_what_nobody_needs_cannot_contradict(table):
    path = table("visits.csv", patient=["10", "10"], risk=[3, 3], seen=["2001", "2002"])
    require_columns(annotate(default(), ROWS, [path]), risk=[3, 3, 3, np.nan])
    with pytest.raises(TableError, match="patient '10' has rows that differ"):
        annotate(default(), ROWS, [path], needed=["seen"])


def test_a_welcome_column_is_taken_where_there_is_one(table):
    labels = table("labels.csv", patient=[10, 11], af=[1, 0], note=["a", "b"])
    found = annotate(default(), ROWS, [labels], welcome=["af", "age", "sinus"])
    require_columns(found, af=[1, 1, 1, 0], age=[50, 50, 51, 60])
    assert found.columns.keys() == default().columns.keys() | {"af"}
    with pytest.raises(TableError, match="labels.csv: no column to take; found patient, af, note"):
        annotate(default(), ROWS, [labels])


def test_ptb_xl_s_own_table(real_data):
    """It counts its paths from above the folder of records, which is not known any more."""
    path = str(real_data / "ptb-xl/ptbxl_database.csv")
    oracle = pd.read_csv(path).sample(frac=1, random_state=0)
    rows = pd.DataFrame(
        {
            "record": oracle["filename_hr"].str.removeprefix("records500/"),
            "patient": oracle["patient_id"].astype(int).astype(str),
            "study": None,
        }
    )
    unknown = np.full(len(rows), np.nan, np.float32)
    bare = Annotations(
        dict.fromkeys(("risk", "completeness", "age", "male"), unknown), np.zeros(len(rows), bool)
    )
    found = annotate(bare, rows, [path], needed=["strat_fold", "report"])
    np.testing.assert_array_equal(found.columns["strat_fold"], oracle["strat_fold"])
    np.testing.assert_array_equal(found.columns["male"], 1 - oracle["sex"])
    assert found.columns["report"].tolist() == oracle["report"].str.strip().tolist()
    assert found.columns["strat_fold"].dtype == np.float32


def test_a_split_by_a_table_and_by_a_fraction(table):
    path = table("split.csv", patient=["10", "11"], split=["validation", "train"])
    assert annotate(default(), ROWS, [path]).is_validation.tolist() == [True, True, True, False]
    fraction = 0.3
    by_hash = [is_validation_patient(patient, fraction) for patient in ROWS["patient"]]
    assert by_hash == [True, True, True, False]
    for tables in ([], [path]):
        found = annotate(default(), ROWS, tables, validation_fraction=fraction)
        assert found.is_validation.tolist() == by_hash
    assert not annotate(default(), ROWS, validation_fraction=0.0).is_validation.any()


def test_a_split_that_tears_a_patient_or_forgets_a_record_is_refused(table):
    torn = table("torn.csv", record=["p/1", "p/2", "q/1"], split=["train", "validation", "train"])
    with pytest.raises(TableError, match=r"torn\.csv: column split puts patient 10 on both sides"):
        annotate(default(), ROWS, [torn])
    short = table("short.csv", patient=["10"], split=["train"])
    with pytest.raises(TableError, match=r"short\.csv: column split says 'nothing' of record q/1"):
        annotate(default(), ROWS, [short])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"record": ["p/1"], "seen": [1]}, "no column to take; found record, seen; expected risk,"),
        (
            {"person": ["10"], "risk": [1]},
            "no column that says whose row it is; found person, risk",
        ),
        ({"patient": ["7"], "risk": [1]}, "no row belongs to any of the 3 records"),
        ({"patient": ["10", "10"], "risk": [1, 2]}, "patient '10' has rows that differ"),
        ({"patient": ["10"], "risk": ["high"]}, "column 'risk' holds 'high' in row 1"),
        ({"patient": ["10"], "sex": [1]}, "column 'sex' codes sex as numbers"),
    ],
)
def test_tables_that_do_not_fit_are_refused(table, columns, message):
    with pytest.raises(TableError) as error:
        annotate(default(), ROWS, [table("t.csv", **columns)])
    assert "t.csv: " in str(error.value) and message in str(error.value)


def test_a_needed_column_that_is_absent_or_unknown_is_said(table, caplog):
    with pytest.raises(
        AnnotationError, match="column 'text' is needed, and neither the shards nor"
    ):
        annotate(default(), ROWS, needed=["risk", "text"])
    blank = table("blank.csv", patient=["10"], risk=[""], age=[40])
    with caplog.at_level("WARNING", logger="absl"):
        annotate(default(), ROWS, [blank], needed=["age"])
        assert not caplog.records
        annotate(default(), ROWS, [blank], needed=["age", "risk"])
    (record,) = caplog.records
    assert "column 'risk' is needed, and no record's value is known" in record.getMessage()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["1", " 2.5", "", "unknown"], [1, 2.5, np.nan, np.nan]),
        (["1,5", "2", "3", "4"], [1.5, 2, 3, 4]),
        ([True, False, True, True], [1, 0, 1, 1]),
        (["True", "False", "", "TRUE"], [1, 0, np.nan, 1]),
        (["True", "2", "False", "3"], ["True", "2", "False", "3"]),
        (["120/80", "1", "2", "3"], ["120/80", "1", "2", "3"]),
        (["1", "2", "NORM", ""], ["1", "2", "NORM", ""]),
        ([" sinus ", None, "AF", "7"], ["sinus", None, "AF", "7"]),
        (["inf", "1", "2", "3"], ["inf", "1", "2", "3"]),
    ],
)
def test_a_column_is_numbers_where_nothing_else_stands_in_it(given, expected):
    found = numbers_or_text(pd.Series(given))
    if isinstance(expected[0], str):
        assert found.dtype == object and found.tolist() == expected
    else:
        np.testing.assert_array_equal(found, np.float32(expected))


def test_the_fingerprint_is_of_values_in_their_order():
    some = default()
    found = some.fingerprints(["risk"])
    assert found.keys() == {"risk", "split"}
    content = np.array([1, 1, 2, np.nan], "<f4").tobytes()
    assert found["risk"] == hashlib.sha256(content).hexdigest()
    assert found["split"] == hashlib.sha256(bytes([0, 0, 0, 1])).hexdigest()

    def of(values):
        return Annotations({"x": np.array(values)}, some.is_validation).fingerprints(["x"])["x"]

    odd_nan = np.array([0, 0x7FC00001], np.uint32).view(np.float32)
    assert of(odd_nan) == of(np.float32([-0.0, np.nan])) != of(np.float32([np.nan, 0]))
    texts = [np.array(text, object) for text in (["a", "b"], ["a\nb", ""], ["b", "a"], ["a", None])]
    assert len({of(text) for text in texts}) == 4


def test_paths_are_separated_by_commas():
    assert table_paths("") == [] and table_paths("a b.csv, /c.csv") == ["a b.csv", "/c.csv"]
