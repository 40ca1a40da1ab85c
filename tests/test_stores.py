"""Folders in an object store, and what must not be taken for one on a disk."""

import json
import pathlib
import sys

import numpy as np
import pytest

from clef_jax import files, stores
from clef_jax.checkpoints.encoder import load_params, save_encoder
from clef_jax.checkpoints.meta import steps_in
from clef_jax.data.shards.format import read_manifest
from clef_jax.data.shards.store import ShardSet
from clef_jax.data.shards.write import write_shards
from clef_jax.stores import StoreError
from clef_jax.train.metrics import read_metrics
from clef_jax.train.run_record import announce_run
from tests.fake_store import URL


@pytest.mark.parametrize("name", ["gs://b/x", "s3://b", "https://host/x", pathlib.Path("gs://b/x")])
def test_urls_are_of_no_disk(name):
    assert stores.is_stored(name)


@pytest.mark.parametrize("name", ["x", "/x/y", "C:/x", "C:\\x", "gs:", "a:b/c", "", pathlib.Path()])
def test_all_else_is(name):
    assert not stores.is_stored(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("s3://bucket/run", "know no such store"),
        ("file:///run", "know no such store"),
        (pathlib.Path("gs://bucket/run"), "by gs:// in a text"),
        ("gs://", "names no bucket"),
    ],
)
def test_other_stores_are_refused(name, message):
    with pytest.raises(StoreError, match=message):
        stores.at(name)


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(StoreError, match=r"needs the extra gcs: pip install"):
        stores.at("gs://never-asked/run")


@pytest.mark.parametrize(
    "write",
    [
        lambda url: files.only_writer(url).__enter__(),
        lambda url: files.locked(f"{url}/.lock").__enter__(),
        lambda url: files.replacing_folder(url).__enter__(),
        lambda url: save_encoder(url, {"kernel": np.zeros(2, np.float32)}, {}),
        lambda url: write_shards("records", url),
    ],
)
@pytest.mark.parametrize("url", ["gs://bucket/out", "s3://bucket/out", pathlib.Path("gs://b/out")])
def test_what_needs_a_disk_makes_no_folder_of_a_url(write, url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match="write to a disk of this machine and copy it"):
        write(url)
    assert not list(tmp_path.iterdir())


def test_a_file_is_put_whole_or_stays_as_it_was(store):
    path = stores.at(f"{URL}/put/a.json")
    files.write_json(path, {"b": 1, "a": [2]})
    before = store.content["put/a.json"]
    assert json.loads(before) == {"a": [2], "b": 1}
    with pytest.raises(RuntimeError), files.replacing(path) as temporary:
        pathlib.Path(temporary).write_text("half")
        raise RuntimeError
    assert store.content["put/a.json"] == before
    files.write_json(path, {})
    assert store.content["put/a.json"] == b"{}\n"
    assert not pathlib.Path("gs:").exists()


def test_what_others_put_is_seen_at_once(store):
    folder = stores.at(f"{URL}/seen")
    store.put("seen/a", b"1")
    assert [path.name for path in folder.iterdir()] == ["a"]
    store.put("seen/b/c", b"22")
    assert sorted(path.name for path in stores.files_below(folder)) == ["a", "c"]
    assert stores.size(folder / "b" / "c") == 2
    store.put("seen/b/c", b"333")
    assert stores.size(folder / "b" / "c") == 3
    assert stores.size(folder / "b") is None and stores.size(folder / "d") is None


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_checksums_tell_what_differs(store, damage):
    folder = stores.at(f"{URL}/sums-{damage}")
    for name in ("a", "item/b", "item/deep/c"):
        store.put(f"sums-{damage}/{name}", name.encode() * 100)
    files.write_sums(folder, stores.files_below(folder))
    assert files.has_sums(folder) and files.sum_faults(folder) == []
    assert files.sum_faults(folder) == []
    if damage == "missing":
        store.remove(f"sums-{damage}/item/deep/c")
    else:
        store.put(f"sums-{damage}/item/deep/c", b"x" + b"item/deep/c" * 100)
    (fault,) = files.sum_faults(folder)
    assert fault.startswith(f"{folder}/item/deep/c: ")
    assert files.sum_faults(folder, skip=["item"]) == []


def test_folders_are_set_aside_and_removed(store):
    folder = stores.at(f"{URL}/aside/5")
    for content in (b"first", b"second"):
        store.put("aside/5/item/a", content)
        assert files.set_aside(folder).name == "5.damaged"
        assert store.content["aside/5.damaged/item/a"] == content
        assert "aside/5/item/a" not in store.content
    for _ in range(2):
        stores.remove_folder(folder.parent)
        assert not [name for name in store.content if name.startswith("aside/")]


def test_a_text_grows_by_being_put_anew_while_it_is_ours(store):
    path, ours = stores.at(f"{URL}/text"), True

    def require_ours():
        if not ours:
            raise StoreError("another's")

    text = stores.GrowingText(path, "a\n", require_ours)
    assert store.content["text"] == b"a\n"
    text.write("b\n")
    text.flush()
    assert store.content["text"] == b"a\nb\n"
    asked = len(store.asked)
    text.flush()
    assert len(store.asked) == asked
    text.write("c\n")
    ours = False
    with pytest.raises(StoreError, match="another's"):
        text.close()
    assert store.content["text"] == b"a\nb\n"


def test_a_store_that_refuses_is_told_in_a_line(store, monkeypatch):
    path = stores.at(f"{URL}/forbidden/a.json")
    monkeypatch.setattr(store, "forbidden", "forbidden/")
    with pytest.raises(
        StoreError, match=r"a\.json: the store does not do as asked .*Forbidden"
    ) as e:
        files.write_json(path, {})
    assert "\n" not in str(e.value)
    with pytest.raises(StoreError, match="does not do as asked"):
        files.file_sha256(path)


def test_a_bucket_that_there_is_not_is_told_in_a_line(store):
    with pytest.raises(StoreError, match="gs://nothing/a.json: there is no such bucket"):
        files.write_json(stores.at("gs://nothing/a.json"), {})


def test_an_encoder_is_loaded_from_a_store(store, weights):
    url = store.put_folder(pathlib.Path(weights), "encoder")
    (params, meta), (stored, stored_meta) = load_params(weights), load_params(url)
    assert meta == stored_meta
    flat = [dict(files_of(tree)) for tree in (params, stored)]
    assert flat[0].keys() == flat[1].keys()
    for name, value in flat[0].items():
        np.testing.assert_array_equal(value, flat[1][name])


def files_of(tree, path=()):
    for key, value in tree.items():
        yield from (
            files_of(value, (*path, key)) if isinstance(value, dict) else [((*path, key), value)]
        )


@pytest.mark.parametrize(
    "read",
    [
        read_manifest,
        lambda url: ShardSet(url),
        lambda url: files.file_sha256(f"{url}/a"),
        lambda url: read_metrics(f"{url}/a"),
        lambda url: steps_in(stores.at(url)),
        lambda url: announce_run({"config": {}}, stores.at(url)),
        lambda url: stores.for_arrow(f"{url}/a"),
    ],
)
def test_what_cannot_be_read_is_told_in_a_line_whoever_reads(store, monkeypatch, read):
    stores.at(f"{URL}/unread")  # The bucket has answered before.
    for name in ("a", "manifest.json", "5/commit_success.txt"):
        store.put(f"unread/{name}", b"{}")
    monkeypatch.setattr(store, "forbidden", "unread")
    with pytest.raises(StoreError, match=r"unread.*: the store does not do as asked") as e:
        read(f"{URL}/unread")
    assert "\n" not in str(e.value)
