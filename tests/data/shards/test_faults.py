"""Shard sets that are damaged, of other releases, or hold what cannot be."""

import dataclasses
import json
import pathlib
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from absl import logging

from clef_jax.data.annotations.join import MetadataTable, RiskTable
from clef_jax.data.annotations.stored import ANNOTATION_SCHEMA
from clef_jax.data.shards.format import ShardError, manifest_entry, shard_faults, signed
from clef_jax.data.shards.index import INDEX_SCHEMA
from clef_jax.data.shards.plan import WriteOptions
from clef_jax.data.shards.store import ShardSet
from clef_jax.data.shards.write import write_shards
from clef_jax.data.signals.montage import ECG, Montage
from clef_jax.data.signals.spec import CLEF_V2
from tests.damage import flip_bit
from tests.oracles.specs import SPEC_VERSION_1

FIXTURES = pathlib.Path(__file__).parents[2] / "fixtures"


@pytest.fixture
def copied(shards_folder, tmp_path):
    shutil.copytree(shards_folder, tmp_path / "out")
    return tmp_path / "out"


def edit_manifest(folder, **changes):
    path = folder / "manifest.json"
    path.write_text(json.dumps(signed(json.loads(path.read_text()) | changes)))


def test_another_preprocessing_is_refused(copied):
    spec = json.loads((copied / "manifest.json").read_text())["preprocessing"]
    edit_manifest(copied, preprocessing=spec | {"version": 3, "detrend": True})
    with pytest.raises(ShardError) as error:
        ShardSet(copied)
    for part in ("manifest.json", "version 3 instead of 2", "unknown field detrend", "write the"):
        assert part in str(error.value)


def test_preprocessing_and_montage_are_those_of_the_manifest(copied):
    edit_manifest(copied, preprocessing=CLEF_V2.to_dict() | {"band_hz": [0.5, 40.0], "order": 3})
    shards = ShardSet(copied)
    assert shards.spec == dataclasses.replace(CLEF_V2, band_hz=(0.5, 40.0), order=3)
    assert shards.montage == ECG and shards.manifest["montage"]["leads"] == list(ECG.leads)
    ids = shards.lead_ids.copy()
    turned = Montage("turned", ECG.leads[::-1])
    edit_manifest(copied, montage=turned.to_dict())
    shards = ShardSet(copied)
    assert shards.montage == turned
    np.testing.assert_array_equal(shards.lead_ids, np.where(ids < 0, -1, 14 - ids))
    edit_manifest(copied, montage={"name": "ecg"})
    with pytest.raises(ShardError, match="json: a montage has.*unknown: aliases, leads; write"):
        ShardSet(copied)
    edit_manifest(copied, montage=Montage("two", ("I", "II")).to_dict())
    with pytest.raises(ShardError, match="column leads: found.*expected 1 to 2 leads"):
        ShardSet(copied)


def test_version_1_of_the_preprocessing_opens_with_a_warning(copied, caplog, monkeypatch):
    monkeypatch.setattr(logging, "_log_counter_per_token", {})  # It is said once in a process.
    edit_manifest(copied, preprocessing=SPEC_VERSION_1)
    with caplog.at_level("WARNING", logger="absl"):
        shards = ShardSet(copied)
    (record,) = caplog.records
    assert "manifest.json: preprocessed in version 1" in record.getMessage()
    assert shards.manifest["preprocessing"] == SPEC_VERSION_1
    edit_manifest(copied, preprocessing=SPEC_VERSION_1 | {"order": 4})
    with pytest.raises(ShardError, match="version 1: order 4 instead of 5; write"):
        ShardSet(copied)


def test_another_format_is_refused(copied):
    edit_manifest(copied, format_version=99)
    with pytest.raises(ShardError, match=r"manifest\.json: format_version is 99.*reads 1 and 2;"):
        ShardSet(copied)


def test_an_unfinished_set_is_refused(copied, tmp_path):
    (copied / "manifest.json").unlink()
    with pytest.raises(ShardError, match=r"manifest\.json: missing.*run tools/write_shards\.py"):
        ShardSet(copied)
    with pytest.raises(ShardError, match="nowhere: no such folder"):
        ShardSet(tmp_path / "nowhere")
    with pytest.raises(ShardError, match="index.parquet: no such folder"):
        ShardSet(copied / "index.parquet")


@pytest.mark.parametrize("content", ["[]", "3", '{"format_version": 1, "preprocessing": [1]}'])
def test_json_that_is_no_manifest_is_refused(copied, content):
    (copied / "manifest.json").write_text(content)
    with pytest.raises(ShardError, match=r"manifest\.json: no manifest of shards"):
        ShardSet(copied)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("files",), None),
        (("files", 0), -1),
        (("files", 1, "sha256"), None),
        (("files", 2, "bytes"), "many"),
        (("montage",), 0.5),
        (("montage", "leads"), 0),
        (("montage", "aliases"), [1]),
        (("preprocessing",), None),
        (("preprocessing", "band_hz"), 5),
    ],
)
def test_a_manifest_of_other_shape_is_refused(copied, place, value):
    """Signed, as another program may write it."""
    path = copied / "manifest.json"
    manifest = json.loads(path.read_text())
    inner = manifest
    for key in place[:-1]:
        inner = inner[key]
    if value is None:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    path.write_text(json.dumps(signed(manifest)))
    with pytest.raises(ShardError, match=r"manifest\.json: .*write the shards again"):
        ShardSet(copied)


def test_a_damaged_manifest_is_refused(copied):
    text = (copied / "manifest.json").read_text()
    (copied / "manifest.json").write_text(text[: len(text) // 2])
    with pytest.raises(ShardError, match=r"manifest\.json: damaged.*write the shards again"):
        ShardSet(copied)


def test_a_truncated_shard_is_refused_and_rewritten(copied, shards_folder):
    shard = copied / "leads-00001.array_record"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1000])
    with pytest.raises(ShardError) as error:
        ShardSet(copied)
    for part in (str(shard), f"expected {len(whole)}", "truncated", "write_shards.py again"):
        assert part in str(error.value)
    shard.unlink()
    with pytest.raises(ShardError, match=r"leads-00001\.array_record: missing"):
        ShardSet(copied)
    other = (copied / "leads-00000.array_record").stat().st_mtime_ns
    cohort = shards_folder.parent / "cohort"
    write_shards(
        cohort,
        copied,
        record_list=str(cohort / "record_list.csv"),
        metadata=MetadataTable(str(cohort / "metadata.csv")),
        risk=RiskTable(str(cohort.parent / "risk.parquet")),
        validation_fraction=0.3,
        options=WriteOptions(records_per_shard=16),
        workers=1,
        progress=False,
    )
    assert shard.read_bytes() == whole
    assert (copied / "leads-00000.array_record").stat().st_mtime_ns == other
    assert ShardSet(copied).fingerprint == ShardSet(shards_folder).fingerprint


@pytest.mark.parametrize("file", ["leads-00000.array_record", "index.parquet", "manifest.json"])
def test_what_an_earlier_release_wrote_is_left_to_it_to_mend(tmp_path, file):
    old = tmp_path / "old"
    shutil.copytree(FIXTURES / "release_0_1_0" / "shards", old)
    (old / file).unlink()
    with pytest.raises(ShardError, match=f"{file}: missing") as error:
        ShardSet(old)
    assert "tools/write_shards.py of the release that began it (format 1)" in str(error.value)
    # Alone, without its plan, nothing keeps this release from writing there.
    (old / "plan.json").unlink()
    with pytest.raises(ShardError, match=r"tools/write_shards\.py again"):
        ShardSet(old)


def test_checksums_find_a_flipped_bit(copied):
    shard = copied / "leads-00002.array_record"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    assert shard_faults(copied) == []
    (fault,) = shard_faults(copied, checksums=True)
    assert str(shard) in fault and "checksum" in fault and "write_shards.py again" in fault


def test_any_flipped_bit_of_index_annotations_and_manifest_is_found(copied, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("index.parquet", "annotations.parquet", "manifest.json"):
        for _ in range(60):
            whole = flip_bit(copied / name, rng)
            with pytest.raises(ShardError, match=name) as error:
                ShardSet(copied)
            assert "write" in str(error.value) and "again" in str(error.value)
            (copied / name).write_bytes(whole)
    ShardSet(copied)
    shutil.copytree(FIXTURES / "release_0_1_0" / "shards", tmp_path / "old")
    for _ in range(60):
        whole = flip_bit(tmp_path / "old" / "index.parquet", rng)
        with pytest.raises(ShardError, match=r"index\.parquet: its content differs"):
            ShardSet(tmp_path / "old")
        (tmp_path / "old" / "index.parquet").write_bytes(whole)


def rewrite(folder, name, rows, schema):
    """Writes index or annotations as if `rows` were what had been made of the recordings."""
    path = folder / name
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    manifest = json.loads((folder / "manifest.json").read_text())
    files = [entry for entry in manifest["files"] if entry["file"] != path.name]
    edit_manifest(folder, files=[*files, manifest_entry(path, path.name)])


def scales(*first):
    return lambda row: row["scale_mv"].__setitem__(slice(len(first)), first)


def column(**values):
    return lambda row: row.update(values)


@pytest.mark.parametrize(
    ("change", "found", "expected"),
    [
        (scales(np.inf), "scale_mv: found inf", "above 0 and at most 0.0305 mV"),
        (scales(0.001, np.nan), "scale_mv: found nan", "above 0"),
        (scales(0.001, -0.001), "scale_mv: found -0.001", "above 0"),
        (scales(0.0), "scale_mv: found 0.0", "above 0"),
        (scales(1.0), "scale_mv: found 1.0", "a sample of 1 V"),
        (column(scale_mv=[0.001]), "scale_mv: found [0.001", "one scale for each lead"),
        (column(leads=None), "leads: found None", "1 to 15 leads"),
        (column(leads=[], scale_mv=[]), "leads: found []", "1 to 15 leads"),
        (column(leads=["II", "MLII"], scale_mv=[0.1] * 2), "leads: found 'MLII'", "aVR"),
        (column(patient=None), "patient: found None", "an identifier"),
        (column(record=None), "record: found None", "a name"),
        (column(shard=7), "shard: found 7", "0 to "),
        (column(first_entry=-1), "first_entry: found -1", "0 or more"),
        (column(first_entry=2**31), "first_entry: found 2147483648", "0 or more, below 1073741824"),
        (column(start_s=-1.0), "start_s: found -1.0", "seconds, 0 or more"),
        (column(start_s=np.nan), "start_s: found nan", "seconds, 0 or more"),
    ],
)
def test_an_index_of_impossible_values_is_refused(copied, change, found, expected):
    rows = pq.read_table(copied / "index.parquet").to_pylist()
    change(rows[5])
    rewrite(copied, "index.parquet", rows, INDEX_SCHEMA)
    with pytest.raises(ShardError) as error:
        ShardSet(copied)
    name = rows[5]["record"]
    for part in (str(copied / "index.parquet"), f"record {name!r} (row 5)", found, expected):
        assert part in str(error.value)


IMPOSSIBLE_ANNOTATIONS = [
    (column(risk=np.inf), "risk: found inf", "percent from 0 to 100"),
    (column(risk=-1.0), "risk: found -1.0", "percent from 0 to 100"),
    (column(risk=1386.0), "risk: found 1386.0", "percent from 0 to 100"),
    (column(completeness=1.5), "completeness: found 1.5", "a share from 0 to 1"),
    (column(age=-np.inf), "age: found -inf", "years from 0 to 150"),
    (column(sex="m"), "sex: found 'm'", "female or male or nothing"),
    (column(split="test"), "split: found 'test'", "train or validation"),
    (column(split=None), "split: found None", "train or validation"),
]


@pytest.mark.parametrize(("change", "found", "expected"), IMPOSSIBLE_ANNOTATIONS)
def test_impossible_annotations_are_refused(copied, tmp_path, change, found, expected):
    old = shutil.copytree(FIXTURES / "format_2" / "shards", tmp_path / "old")
    for folder, name in ((copied, "annotations.parquet"), (old, "index.parquet")):
        path = folder / name
        schema = pq.read_schema(path)
        rows = pq.read_table(path).to_pylist()
        change(rows[5])
        rewrite(folder, name, rows, schema)
        with pytest.raises(ShardError) as error:
            ShardSet(folder)
        for part in (str(path), f"record {rows[5]['record']!r} (row 5)", found, expected):
            assert part in str(error.value)


def test_every_record_has_one_row_of_annotations_in_any_order(copied, shards_folder):
    expected = ShardSet(shards_folder).annotations
    rows = pq.read_table(copied / "annotations.parquet").to_pylist()
    rewrite(copied, "annotations.parquet", rows[::-1], ANNOTATION_SCHEMA)
    found = ShardSet(copied).annotations
    assert found.fingerprints(found.columns) == expected.fingerprints(expected.columns)
    rewrite(copied, "annotations.parquet", [*rows, rows[3]], ANNOTATION_SCHEMA)
    with pytest.raises(
        ShardError, match=r"annotations\.parquet: record .* expected each record on"
    ):
        ShardSet(copied)
    rewrite(copied, "annotations.parquet", rows[:-1], ANNOTATION_SCHEMA)
    with pytest.raises(ShardError, match=f"record '{rows[-1]['record']}' of the index has no row"):
        ShardSet(copied)


def test_windows_of_a_record_share_its_annotations(copied):
    rows = pq.read_table(copied / "index.parquet").to_pylist()
    rewrite(copied, "index.parquet", [*rows, rows[7] | {"start_s": 10.0}], INDEX_SCHEMA)
    shards = ShardSet(copied)
    assert shards.start_s.tolist() == [0] * len(rows) + [10]
    for values in (*shards.annotations.columns.values(), shards.annotations.is_validation):
        np.testing.assert_array_equal(values[-1], values[7])


def test_every_impossible_value_is_counted_and_unknown_ones_are_not(copied):
    rows = pq.read_table(copied / "annotations.parquet").to_pylist()
    for row in rows:
        row.update(risk=None, completeness=np.nan, age=None, sex=None)
    rewrite(copied, "annotations.parquet", rows, ANNOTATION_SCHEMA)
    for values in ShardSet(copied).annotations.columns.values():
        assert np.isnan(values).all()
    index = pq.read_table(copied / "index.parquet").to_pylist()
    for row in index[:9]:
        row["shard"] = -1
    index[3]["record"] = index[2]["record"]
    rewrite(copied, "index.parquet", index, INDEX_SCHEMA)
    with pytest.raises(ShardError, match="expected each record once, or.*; .*and 5 more"):
        ShardSet(copied)


def test_the_fingerprint_is_of_the_signals_and_not_of_where_they_came_from(copied, shards_folder):
    shards = ShardSet(copied)
    files = {entry["file"]: entry for entry in shards.manifest["files"]}
    assert set(files) >= {"index.parquet", "rejected.csv", "leads-00000.array_record"}
    files["rejected.csv"]["sha256"] = "another"
    edit_manifest(copied, files=list(files.values()))
    assert ShardSet(copied).fingerprint == shards.fingerprint == ShardSet(shards_folder).fingerprint
    rows = pq.read_table(copied / "annotations.parquet").to_pylist()
    rewrite(copied, "annotations.parquet", [rows[0] | {"risk": 50.0}, *rows[1:]], ANNOTATION_SCHEMA)
    assert ShardSet(copied).fingerprint == shards.fingerprint
    rows = pq.read_table(copied / "index.parquet").to_pylist()
    rewrite(copied, "index.parquet", [rows[0] | {"study": "another"}, *rows[1:]], INDEX_SCHEMA)
    assert ShardSet(copied).fingerprint != shards.fingerprint
