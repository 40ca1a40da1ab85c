"""All tasks under both presets, from their files to rows of results.

PTB-XL's are asked of its real recordings, the others of a few people in the layout as published.
The encoder is random and the people are few: what is asserted are counts, and what rows say.
"""

import json

import pandas as pd
import pytest

from clef_jax.evaluate.asking.encoders import contestants
from clef_jax.evaluate.asking.run import Choices, evaluate
from clef_jax.evaluate.datasets.suite import TASKS, find_tasks
from clef_jax.evaluate.statistics.evaluate import UNFLAGGED
from clef_jax.evaluate.tasks.task import PRESETS
from tests.evaluate.datasets import native, people

pytestmark = pytest.mark.slow

CHAPMAN = {
    "train": [(at, ("AFIB,TWC", "SB", "AF,RBBB")[at % 3]) for at in range(24)],
    "val": [(100 + at, ("AFIB", "RBBB,TWC")[at % 2]) for at in range(6)],
    "test": [(200 + at, ("AF", "TWC", "AFIB,RBBB")[at % 3]) for at in range(9)],
}
WRITERS = {
    "chapman": lambda root: native.write_chapman(root, CHAPMAN),
    "icentia11k": lambda root: native.write_icentia(
        root, dict(people.icentia_patient(number) for number in range(20))
    ),
    "music": lambda root: native.write_music(
        root, people.music_subjects(), hours=0.07, sampled=True
    ),
    "mimic_lvef": lambda root: native.write_mimic(root, people.mimic_rows()),
    "mcmed": lambda root: native.write_mcmed(root, people.mcmed_visits(), people.MCMED_SPLITS),
    "aurorabp": lambda root: native.write_aurora(root, people.aurora_people()),
}
DATASETS = ("ptbxl", *WRITERS)

# Examples in train, validation and test; and of test what is scored: its positives, label by label,
# or the number of its values.
COUNTS = {
    ("chapman", "clean"): ((24, 6, 9), {"AF": 3, "RBBB": 3, "AFIB": 3, "TWC": 3}),
    # Its substring search takes AFIB for AF as well (Q15).
    ("chapman", "reference"): ((24, 6, 9), {"AF": 6, "RBBB": 3, "AFIB": 3, "TWC": 3}),
    ("icentia11k/beat", "clean"): ((56, 8, 16), {"N": 8, "S": 4, "V": 4}),
    ("icentia11k/beat", "reference"): ((22, 6, 5), {"N": 2, "S": 3, "V": 0}),
    # Three windows of an episode are one.
    ("icentia11k/rhythm", "clean"): ((84, 12, 24), {"N": 4, "AFIB": 0, "AFL": 4}),
    ("icentia11k/rhythm", "reference"): ((34, 8, 8), {"N": 3, "AFIB": 2, "AFL": 3}),
    # 24 windows of a subject are one.
    ("music", "clean"): (
        (42 * 24, 5 * 24, 13 * 24),
        {
            "survivor": 3,
            "non-cardiac death": 2,
            "sudden cardiac death": 3,
            "pump-failure death": 5,
        },
    ),
    ("music", "reference"): (
        (42, 6, 12),
        {
            "survivor": 2,
            "non-cardiac death": 2,
            "sudden cardiac death": 2,
            "pump-failure death": 6,
        },
    ),
    ("mimic_lvef/lvef-cls", "clean"): ((38, 6, 15), {"": 5}),
    ("mimic_lvef/lvef-cls", "reference"): ((47, 6, 6), {"": 3}),
    ("mimic_lvef/lvef-reg", "clean"): ((39, 9, 11), 11),
    ("mimic_lvef/lvef-reg", "reference"): ((47, 6, 6), 6),
    ("mcmed/ed-dispo", "clean"): (
        (22, 11, 12),
        {"discharge": 3, "inpatient": 3, "observation": 3, "ICU": 3},
    ),
    ("mcmed/ed-dispo", "reference"): (
        (29, 14, 15),
        {"discharge": 6, "inpatient": 3, "observation": 3, "ICU": 3},
    ),
    ("mcmed/dc-dispo", "clean"): (
        (29, 13, 15),
        {
            "home": 2,
            "care facility": 3,
            "hospital transfer": 2,
            "end of life": 3,
            "psychiatric or rehabilitation": 4,
            "other": 1,
        },
    ),
    ("mcmed/dc-dispo", "reference"): (
        (30, 14, 15),
        {
            "home": 2,
            "care facility": 3,
            "hospital transfer": 4,
            "end of life": 3,
            "psychiatric or rehabilitation": 2,
            "other": 1,
        },
    ),
    ("mcmed/acuity", "clean"): ((29, 13, 15), {"1": 3, "2": 3, "3": 3, "4": 3, "5": 3}),
    ("mcmed/acuity", "reference"): ((30, 14, 15), {"1": 3, "2": 3, "3": 3, "4": 3, "5": 3}),
    ("mcmed/sbp", "clean"): ((27, 13, 15), 15),
    ("mcmed/sbp", "reference"): ((29, 14, 15), 15),
    ("mcmed/dbp", "clean"): ((29, 13, 15), 15),
    ("mcmed/dbp", "reference"): ((30, 14, 15), 15),
    ("aurorabp/sbp", "clean"): ((20, 4, 6), 6),
    ("aurorabp/sbp", "reference"): ((53, 8, 12), 12),
    ("aurorabp/dbp", "clean"): ((20, 4, 6), 6),
    ("aurorabp/dbp", "reference"): ((53, 8, 12), 12),
}
# Of the real recordings: the examples, the labels that any has, and those in train and test.
PTBXL = {
    "diagnostic": ((223, 51, 49), 33, 13),
    "subdiagnostic": ((223, 51, 49), 21, 12),
    "superdiagnostic": ((223, 51, 49), 5, 5),
    "form": ((57, 16, 11), 17, 8),
    "rhythm": ((212, 53, 50), 8, 4),
}
SUPERCLASSES = {
    "CD": (37, 8, 7), "HYP": (15, 7, 6), "MI": (34, 11, 7), "NORM": (144, 24, 29),
    "STTC": (36, 18, 11),
}  # fmt: skip
SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def root_of(request, tmp_path_factory):
    """Returns what gives the folder of a dataset: the real one, or one written when asked for."""
    written = {}

    def root_of(dataset):
        if dataset == "ptbxl":
            return str(request.getfixturevalue("real_data") / "ptb-xl")
        if dataset not in written:
            written[dataset] = tmp_path_factory.mktemp(dataset)
            WRITERS[dataset](written[dataset])
        return str(written[dataset])

    return root_of


def run(tasks, root, weights, out, **choices):
    """Asks tasks of one random encoder; returns the records by task, and all results."""
    made = Choices(leads=("II",), workers=0, seeds=1, **choices)
    summary = evaluate(tasks, root, contestants([weights], seeds=1), made, out)
    assert not summary.not_run and not summary.unreadable
    assert [one["task"] for one in summary.done] == [task.info.name for task in tasks]
    records = {one["name"]: one for one in json.loads((out / "tasks.json").read_text())}
    return records, pd.read_parquet(out / "results.parquet")


def require_whole(rows, record, task, preset):
    """Asserts that rows of results say what they are of, and that every model has its headline."""
    assert (rows["preset"] == preset).all() and (rows["kind"] == task.info.kind).all()
    assert (rows["split_hash"] == record["split_hash"]).all() and len(record["split_hash"]) == 16
    assert (rows["n"] > 0).all() and record["label_hash"]
    is_regression = task.info.kind == "regression"
    assert is_regression or (rows["positives"] <= rows["n"] * len(record["classes"])).all()
    # What reads no signal has no preparation.
    assert ((rows["preparation"] == "") == rows["model"].isin(["mean", "prevalence"])).all()
    embedded = rows[rows["mode"] != "baseline"]
    assert set(embedded["model"]) == {"tiny"} and embedded["fingerprint"].str.len().eq(64).all()
    if preset == "reference":
        assert record["preparation"] == task.preparation(preset).hash
        assert embedded["preparation"].str.startswith(record["preparation"]).all()
    whole = rows[(rows["label"] == "") & (rows["metric"] == ("mae" if is_regression else "auroc"))]
    expected = {
        "tiny",
        "heart rate",
        "plain measurements",
        "mean" if is_regression else "prevalence",
    }
    assert expected <= set(whole["model"]) <= expected | {"age and sex"}
    known = whole["value"].notna()
    assert (known | whole["flag"].ne("")).all() and known.any()
    assert (whole["low"] <= whole["high"])[known & whole["low"].notna()].all()


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("dataset", DATASETS)
def test_every_task_is_probed(dataset, preset, root_of, weights, tmp_path):
    tasks = find_tasks(dataset)
    records, results = run(tasks, root_of(dataset), weights, tmp_path / "R", preset=preset)
    assert set(results["task"]) == {task.info.name for task in tasks}
    for task in tasks:
        name = task.info.name
        rows, record = results[results["task"] == name], records[name]
        require_whole(rows, record, task, preset)
        sizes = tuple(record["counts"][split]["examples"] for split in SPLITS)
        if dataset == "ptbxl":
            expected, present, testable = PTBXL[name.split("/")[1]]
            labels = record["counts"]["test"].keys() - {"examples", "patients"}
            assert len(labels) == (present if preset == "reference" else testable)
            positives = {label: record["counts"]["test"][label] for label in labels}
        else:
            expected, positives = COUNTS[name, preset]
        assert sizes == expected, name
        if task.info.kind == "regression":
            assert (rows["n"] == positives).all()
            continue
        of_label = rows[rows["label"] != UNFLAGGED]
        for label, count in positives.items():
            found = of_label[of_label["label"] == label]
            assert len(found) and (found["positives"] == count).all(), (name, label)


@pytest.mark.parametrize(
    ("name", "preset"),
    [
        ("ptbxl/superdiagnostic", "clean"),
        ("icentia11k/beat", "reference"),
        ("aurorabp/sbp", "reference"),
    ],
)
def test_tasks_of_every_kind_are_fine_tuned(name, preset, root_of, weights, tmp_path):
    task = TASKS[name]
    root = root_of(name.split("/")[0])
    records, rows = run([task], root, weights, tmp_path / "R", preset=preset, mode="finetune")
    require_whole(rows, records[name], task, preset)
    trained = rows[rows["mode"] == "finetune"]
    assert set(trained["seed"]) == {-1, 0} and trained["preparation"].str.len().ge(16).all()
    if name == "ptbxl/superdiagnostic":
        counts = records[name]["counts"]
        found = {label: tuple(counts[split][label] for split in SPLITS) for label in SUPERCLASSES}
        assert found == SUPERCLASSES
        of_label = trained[trained["label"].isin(SUPERCLASSES)].groupby("label")["positives"]
        assert of_label.unique().map(list).to_dict() == {
            label: [test] for label, (_, _, test) in SUPERCLASSES.items()
        }
