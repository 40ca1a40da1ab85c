"""The tasks by name, what is missing of them, and what they need to be found."""

import pathlib
import re

import pytest

from clef_jax.evaluate.datasets import suite
from clef_jax.evaluate.datasets.folders import find_needs
from clef_jax.evaluate.tasks.task import PRESETS


def test_eighteen_tasks_that_say_all_that_is_to_be_known():
    assert len(suite.TASKS) == 18
    for name, task in suite.TASKS.items():
        info = task.info
        assert info.name == name and info.classes and info.leads
        for text in (info.source, info.licence, info.download, info.how_to_get, info.citation):
            assert text, name
        assert info.original.endswith(".") and ("https://" in info.how_to_get)
        assert bool(info.unit) == (info.kind == "regression")
        assert task.preparation("clean") is None and task.preparation("reference") is not None
    kinds = [task.info.kind for task in suite.TASKS.values()]
    assert [kinds.count(kind) for kind in ("multilabel", "multiclass", "binary", "regression")] == [
        6, 6, 1, 5
    ]  # fmt: skip
    assert PRESETS == ("clean", "reference")


def test_tasks_are_found_by_name_dataset_and_pattern():
    def found(pattern):
        return [task.info.name for task in suite.find_tasks(pattern)]

    assert found("ptbxl/form") == ["ptbxl/form"] and len(found("ptbxl")) == 5
    assert found("*/sbp") == ["mcmed/sbp", "aurorabp/sbp"] and len(found("all")) == 18
    with pytest.raises(suite.UnknownTask, match="no task 'ptbxl/from'; the nearest are ptbxl/form"):
        found("ptbxl/from")
    with pytest.raises(suite.UnknownTask, match="clef-jax tasks lists all"):
        found("zzz")


def test_what_is_missing_where_datasets_lie_side_by_side(real_data):
    missing = {name: suite.missing(task, real_data) for name, task in suite.TASKS.items()}
    there = [name for name, absent in missing.items() if not absent]
    names = ("diagnostic", "subdiagnostic", "superdiagnostic", "form", "rhythm")
    assert there == [*(f"ptbxl/{name}" for name in names), "chapman"]
    assert missing["mimic_lvef/lvef-reg"] == ["files", "LVEF.csv"]
    # PTB-XL has a file of that name as well.
    assert missing["icentia11k/beat"] == ["p00", "RECORDS"]
    assert missing["music"] == ["Holter_ECG", "subject-info.csv or outcomes.csv"]


def test_datasets_are_found_as_wget_leaves_them(tmp_path):
    deep = tmp_path / "data" / "physionet.org" / "files" / "ptb-xl" / "1.0.3"
    (deep / "records500").mkdir(parents=True)
    (deep / "a.csv").touch()
    for root in (tmp_path / "data", tmp_path, deep, deep.parent, deep.parent.parent.parent):
        found = find_needs(root, ("records500", "a.csv", "b.csv or a.csv"))
        expected = {"records500", "a.csv", "b.csv or a.csv"}
        if root.name == "physionet.org":
            expected = set()
        assert found.keys() == expected, root
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "b.csv").touch()
    assert find_needs(tmp_path, ("records500", "b.csv")).keys() == {"records500"}
    apart = find_needs(tmp_path, ("records500", "b.csv"), ("b.csv",))
    assert apart["b.csv"] == str(tmp_path / "labels" / "b.csv")


@pytest.mark.parametrize("number", range(1, 16))
def test_every_quirk_of_the_original_is_told_where_it_is_and_in_the_docs(number):
    folder = pathlib.Path(suite.__file__).parent
    quirk = re.compile(rf"\bQ{number}\b")
    assert quirk.search((folder.parents[2] / "docs" / "evaluation.md").read_text())
    told = [path.stem for path in folder.glob("*.py") if quirk.search(path.read_text())]
    of_task = {task.info.name.split("/")[0] for task in suite.TASKS.values()
               if quirk.search(task.info.original)}  # fmt: skip
    assert of_task and of_task <= set(told)
