"""Tables mutated at random are read rightly or refused by name, whatever is wrong with them."""

import csv
import io

import numpy as np
import pandas as pd
import pytest

from clef_jax.errors import ClefError
from clef_jax.evaluate.datasets import chapman, mcmed
from clef_jax.evaluate.datasets.suite import find_tasks
from clef_jax.evaluate.datasets.user_table import user_task
from clef_jax.evaluate.tasks.task import PRESETS
from clef_jax.tables.columns import TableError
from clef_jax.tables.files import read_table
from tests.damage import flip_bit
from tests.evaluate.datasets import native, people
from tests.evaluate.datasets.mutations import damaged, mutated

AT = np.arange(60)
LABELS = {
    "binary": {"af": AT // 2 % 2},
    "multilabel": {"af": AT // 2 % 2, "mi": AT // 3 % 2},
    "multiclass": {"rhythm": np.array(["SR", "AF", "AFL"])[AT % 3]},
    "regression": {"lvef": 30 + AT / 2},
}
KINDS = tuple(LABELS)
SEEDS = [range(60), pytest.param(range(60, 1000), marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """60 recordings that nothing reads."""
    folder = tmp_path_factory.mktemp("records")
    for at in AT:
        (folder / f"r{at}.edf").touch()
    return folder


def table_of(kind, *, split):
    table = pd.DataFrame(
        {
            "file": [f"r{at}.edf" for at in AT],
            "patient": [f"p{at // 2:03}" for at in AT],
            **LABELS[kind],
            "start_s": AT / 2,
            "age": 20 + AT,
            "sex": np.array(["M", "F"])[AT % 2],
        }
    )
    words = np.array(["train", "train", "train", "val", "test"])
    return table.assign(split=words[AT // 2 % 5]) if split else table


def read_by_hand(content):
    """Returns {file: its rows, {column: cell}}, by the rules that the documentation gives."""
    csv.field_size_limit(2**30)
    text = content.decode("utf-8-sig")
    separator = max(",;\t", key=text.splitlines()[0].count)
    header, *rows = (row for row in csv.reader(io.StringIO(text, ""), delimiter=separator) if row)
    assert len(set(header)) == len(header) and all(len(row) <= len(header) for row in rows)
    names = [name.strip().lower() for name in header]
    found = {}
    for row in rows:
        cells = dict(zip(names, (cell.strip() for cell in row), strict=False))
        found.setdefault(cells["file"].replace("\\", "/"), []).append(cells)
    return found


def is_read_as(cell, value):
    """Tells whether a label's number is what its cell says."""
    try:
        number = float({"true": "1", "false": "0"}.get(cell.lower(), cell.replace(",", ".")))
    except ValueError:
        number = np.nan
    return number == value or (np.isnan(value) and np.isnan(number))


def require_right(examples, classes, content):
    by_file = read_by_hand(content)
    for row in examples.table.to_dict("records"):
        source = by_file[row["file"]]
        assert any(
            row["patient"] in (row["file"], cells.get("patient", "").removesuffix(".0"))
            and all(
                classes[int(row["class"])] in cells.values()
                if label == "class"
                else is_read_as(cells.get(label.lower(), ""), row[label])
                for label in examples.labels
            )
            for cells in source
        ), (row, source)


@pytest.mark.parametrize("seeds", SEEDS)
def test_a_users_table_is_read_rightly_or_refused(folder, seeds):
    path, outcomes = folder / "labels.csv", {"read": 0, "refused": 0}
    for seed in seeds:
        rng = np.random.default_rng(seed)
        kind = KINDS[seed % 4]
        path.write_bytes(content := mutated(table_of(kind, split=seed % 3 > 0), rng))
        try:
            task = user_task(path, kind=kind if seed % 5 == 0 else None)
            examples = task.examples("", "clean", "I")
        except ClefError as error:
            assert str(folder) in str(error) and len(str(error)) < 2000, seed
            outcomes["refused"] += 1
        else:
            require_right(examples, task.info.classes, content)
            outcomes["read"] += 1
    assert min(outcomes.values()) > len(seeds) / 20, outcomes


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("file,af\nr0.edf,1,\nr1.edf,0,\n", "its rows have 1 more cells than its header of 2"),
        ("file,af,af\nr0.edf,1,0\nr1.edf,0,1\n", "two columns 'af'; rename"),
        (",file\n0,r0.edf\n1,r1.edf\n", "no label column: Unnamed: 0, file all mean"),
        ("file,af\nr0.edf,135/80\nr1.edf,120/70\nr2.edf,90\nr3.edf,80\nr4.edf,70\n",
         "numbers but for '135/80' .row 1., '120/70' .row 2.; correct"),
        ("file,af,start_s\nr0.edf,1,1/2/2020\nr1.edf,0,0\n", "start_s: found '1/2/2020' in row 1"),
        ("file,lvef\nr0.edf,inf\nr1.edf,30\n", "lvef: found 'inf' .row 1.; expected a number"),
        ("file,lvef\nr0.edf," + "x" * 300_000 + "\n", "lvef has 1 class"),
        ("x" * 300_000 + ",lvef\nr0.edf,1\n", r"no column file; found x{80}\.\.\., lvef; name"),
        ("file,af\nr0.edf,1\n".encode("utf-16"), "not text in UTF-8 .* save it as CSV UTF-8"),
    ],
)  # fmt: skip
def test_what_once_was_read_as_something_else_is_refused(folder, content, said):
    path = folder / "once.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ClefError, match=said) as error:
        user_task(path).examples("", "clean", "I")
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("suffix", [".parquet", ".xlsx"])
def test_damaged_files_of_other_formats_are_refused(folder, tmp_path, suffix):
    path, rng = tmp_path / f"labels{suffix}", np.random.default_rng(0)
    table = table_of("binary", split=True)
    if suffix == ".xlsx":
        pytest.importorskip("openpyxl")
        table.to_excel(path, index=False)
    else:
        table.to_parquet(path, compression="none")
    whole, refused = path.read_bytes(), 0
    for _ in range(40):
        for _ in range(rng.integers(1, 4)):
            flip_bit(path, rng)
        try:
            user_task(path).examples(str(folder), "clean", "I")
        except ClefError:
            refused += 1
        path.write_bytes(whole)
    assert refused > 12
    path.write_bytes(b"file,af\nr0.edf,1\n")
    with pytest.raises(TableError, match=f"labels{suffix} cannot be read as a table: "):
        user_task(path)


def test_parquet_of_any_index_and_of_bytes_is_read_as_the_columns_are(tmp_path):
    table = pd.DataFrame(
        {"file": ["r0", "r1", "r2"], "id": pd.array([2**60 + 1, None, 3], "Int64")}
    )
    path = tmp_path / "t.parquet"
    for stored in (table.set_index("file"), table.set_index(pd.Index([5, 5, 7])),
                   table.assign(file=table["file"].map(str.encode))):  # fmt: skip
        stored.to_parquet(path)
        found = read_table(path)
        assert sorted(found) == ["file", "id"] and found["file"].tolist() == ["r0", "r1", "r2"]
        assert found["id"].tolist()[::2] == [2**60 + 1, 3] and found["id"].isna()[1]
        assert isinstance(found.index, pd.RangeIndex)
    table.assign(file=[b"r0", b"\xff", b"r2"]).to_parquet(path)
    with pytest.raises(TableError, match="cannot be read as a table: .*UTF8"):
        read_table(path)


STATEMENTS = {
    split: [(first + at, ("AFIB,TWC", "AF,RBBB", "SB")[at % 3]) for at in range(6)]
    for split, first in (("train", 0), ("val", 10), ("test", 20))
}
PUBLISHED = {
    "chapman": (
        lambda root: native.write_chapman(root, STATEMENTS),
        [f"tables/{name}" for name in chapman.TABLES],
    ),
    "music": (lambda root: native.write_music(root, people.music_subjects()), ["outcomes.csv"]),
    "mimic_lvef": (lambda root: native.write_mimic(root, people.mimic_rows()), ["LVEF.csv"]),
    "mcmed": (
        lambda root: native.write_mcmed(root, people.mcmed_visits(), people.MCMED_SPLITS),
        [*mcmed.SPLIT_TABLES, "visits.csv"],
    ),
    "aurorabp": (
        lambda root: native.write_aurora(root, people.aurora_people()),
        ["participants.tsv", "features.tsv"],
    ),
}
FEW = [range(3), pytest.param(range(3, 40), marks=pytest.mark.slow)]


def require_read_or_refused(dataset, root, seeds, path, change):
    """Changes a file by each seed, reads every task of the dataset, and puts the file back.

    Returns:
        What came of it, "read" or "refused" each time.
    """
    whole, outcomes = path.read_bytes(), []
    for seed in seeds:
        path.write_bytes(change(np.random.default_rng(seed), whole))
        for task in find_tasks(dataset):
            preset = PRESETS[seed % 2]
            try:
                table = task.examples(str(root), preset, "II").table
            except ClefError as error:
                outcomes.append("refused")
                assert str(root) in str(error) or task.info.name in str(error), (path, seed)
            else:
                outcomes.append("read")
                assert not np.isinf(table.select_dtypes("number")).any(axis=None), (path, seed)
                if preset == "clean":
                    assert (table.groupby("patient")["split"].nunique() == 1).all()
    path.write_bytes(whole)
    return outcomes


@pytest.mark.parametrize("seeds", FEW)
@pytest.mark.parametrize("dataset", PUBLISHED)
def test_published_tables_are_read_or_refused(tmp_path, dataset, seeds):
    write, names = PUBLISHED[dataset]
    write(tmp_path)
    outcomes = []
    for name in names:
        path = tmp_path / name
        separator = "\t" if path.suffix == ".tsv" else ","
        table = pd.read_csv(path, dtype=str, keep_default_na=False, sep=separator)
        outcomes += require_read_or_refused(
            dataset, tmp_path, seeds, path, lambda rng, _, table=table: mutated(table, rng)
        )
    assert "refused" in outcomes


@pytest.mark.parametrize("seeds", FEW)
def test_tables_of_ptbxl_are_read_or_refused(real_data, tmp_path, seeds):
    source = real_data / "ptb-xl"
    database = pd.read_csv(source / "ptbxl_database.csv", dtype=str, keep_default_na=False)
    statements = pd.read_csv(source / "scp_statements.csv", dtype=str, keep_default_na=False)
    (tmp_path / "records500").symlink_to(source / "records500")
    tables = {"ptbxl_database.csv": database, "scp_statements.csv": statements}
    for name, table in tables.items():
        table.to_csv(tmp_path / name, index=False)
    for name, table in tables.items():
        require_read_or_refused(
            "ptbxl/form", tmp_path, seeds, tmp_path / name,
            lambda rng, _, table=table: mutated(table, rng),
        )  # fmt: skip


@pytest.mark.parametrize("seeds", FEW)
def test_lists_and_annotations_of_icentia_are_read_or_refused(tmp_path, seeds):
    native.write_icentia(tmp_path, dict(people.icentia_patient(number) for number in range(6)))
    for name in ("RECORDS", "p00/p00002/RECORDS", "p00/p00003/p00003_s00.atr"):
        require_read_or_refused(
            "icentia11k/beat", tmp_path, seeds, tmp_path / name,
            lambda rng, whole: damaged(whole, rng),
        )  # fmt: skip
