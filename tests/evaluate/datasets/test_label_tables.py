"""The ready tables, made of the real databases."""

import pathlib
import subprocess
import sys

import pandas as pd
import pytest

from clef_jax.data.recordings import open_recording
from clef_jax.evaluate.datasets import label_tables
from clef_jax.evaluate.datasets.user_table import user_task
from clef_jax.evaluate.tasks.task import label_counts
from clef_jax.tables.files import write_table

EXPECTED = {
    "ptbxl_age": ("regression", 329, 305),
    "ptbxl_sex": ("binary", 333, 308),
    "ludb_af": ("binary", 135 - 3, 132),
    "ludb_axis": ("multiclass", 135 - 6, 129),
    "cpsc2021_af": ("binary", 302, 4),
}


@pytest.mark.parametrize("name", label_tables.TABLES)
def test_tables_are_tasks(real_data, tmp_path, name):
    table = label_tables.TABLES[name](str(real_data))
    write_table(table, tmp_path / f"{name}.csv")
    task = user_task(tmp_path / f"{name}.csv")
    examples = task.examples(str(real_data), "clean", "II")
    found = task.info.kind, len(examples.table), examples.table["patient"].nunique()
    assert found == EXPECTED[name]
    row = examples.table.iloc[-1]
    header = open_recording(real_data / row["file"]).header
    assert "II" in header.leads
    assert header.samples >= (row["start_s"] + row["window_s"]) * header.fs


def test_labels_of_ludb(real_data):
    table = label_tables.ludb_af(str(real_data))
    assert len(table) == 135 and table["af"].sum() == 11 and table["af"].isna().sum() == 3
    axis = label_tables.ludb_axis(str(real_data))["axis"]
    assert axis.value_counts().to_dict() == {
        "left axis deviation": 52, "normal": 46, "vertical": 18, "horizontal": 12,
        "right axis deviation": 1,
    }  # fmt: skip
    person = table.set_index("patient").loc["3"]
    assert (person["age"], person["sex"]) == ("53", "M")


def test_labels_of_ptbxl_agree_with_the_manifest(real_data):
    manifest = pd.read_csv(real_data / "MANIFEST.csv")
    manifest = manifest[manifest["dataset"] == "ptb-xl"].set_index("record")
    sex = label_tables.ptbxl_sex(str(real_data))
    records = sex["file"].str.removeprefix("ptb-xl/")
    assert (manifest["sex"].loc[records].to_numpy() == sex["male"].map({1: "M", 0: "F"})).all()
    age = label_tables.ptbxl_age(str(real_data))
    records = age["file"].str.removeprefix("ptb-xl/")
    assert (manifest["age"].loc[records].to_numpy() == age["age_years"]).all()


def test_windows_of_cpsc2021_are_wholly_one_or_the_other(real_data, tmp_path):
    table = label_tables.cpsc2021_af(str(real_data))
    af_of = table.groupby("patient")["af"].agg(["size", "sum"])
    assert af_of.loc["21"].tolist() == [111, 0]
    assert af_of.loc["84", "size"] == af_of.loc["84", "sum"]
    assert (table.groupby("file")["start_s"].diff().dropna() >= 10).all()
    write_table(table, tmp_path / "t.csv")
    for seed in range(4):
        task = user_task(tmp_path / "t.csv", seed=seed)
        counts = label_counts(task.info, task.examples(str(real_data), "clean", "I"))
        assert 0 < counts["test"]["af"] < counts["test"]["examples"]


def test_the_tool_makes_what_it_can(real_data, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ludb").symlink_to(real_data / "ludb")
    tool = pathlib.Path(label_tables.__file__).parents[3] / "tools" / "make_label_tables.py"
    flags = [f"--root={tmp_path / 'data'}", f"--out={tmp_path / 'tables'}"]
    made = subprocess.run([sys.executable, tool, *flags], capture_output=True, text=True)
    assert made.returncode == 0
    assert {p.name for p in (tmp_path / "tables").glob("[!.]*")} == {"ludb_af.csv", "ludb_axis.csv"}
    assert made.stderr.count("not made") == 3 and "ptb-xl" in made.stderr
    assert "ludb_af.csv: 135 examples of 135 patients" in made.stdout
