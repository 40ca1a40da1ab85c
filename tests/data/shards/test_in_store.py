"""A set of shards in an object store: the same records, and every fault by name."""

import pickle

import numpy as np
import pytest

from clef_jax.data.shards.format import ShardError, shard_faults
from clef_jax.data.shards.store import ShardSet
from tests.fake_store import URL

COLUMNS = ("record", "patient", "study", "n_leads", "lead_ids", "scale_mv", "start_s")


@pytest.fixture
def stored(store, shards_folder):
    """The URL of a copy, and its objects' names."""
    url = store.put_folder(shards_folder, "set")
    yield url
    for name in [name for name in store.content if name.startswith("set/")]:
        store.remove(name)


def test_a_set_in_a_store_is_the_one_on_the_disk(stored, shards_folder, store):
    here, there = ShardSet(shards_folder), ShardSet(stored)
    assert there.fingerprint == here.fingerprint and there.folder == stored
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(there, name), getattr(here, name))
    for name, values in here.annotations.columns.items():
        np.testing.assert_array_equal(there.annotations.columns[name], values)
    rng = np.random.default_rng(0)
    records = rng.integers(0, len(here), 24)
    slots = rng.integers(0, here.n_leads[records])
    np.testing.assert_array_equal(there.read(records, slots), here.read(records, slots))
    again = pickle.loads(pickle.dumps(there))
    np.testing.assert_array_equal(again.read(records, slots), here.read(records, slots))


def test_each_entry_is_one_request(stored, store):
    there = ShardSet(f"{stored}/")
    there.read([0, 0, 1], [0, 1, 0])
    before = len(store.asked)
    there.read([0, 1, 1, 1], [2, 3, 4, 4])
    assert len(store.asked) - before == 3


@pytest.mark.parametrize(
    "name", ["leads-00000.array_record", "index.parquet", "annotations.parquet"]
)
@pytest.mark.parametrize("damage", ["missing", "bytes, expected"])
def test_faults_are_found_when_it_is_opened(stored, store, name, damage):
    content = store.content[f"set/{name}"]
    store.remove(f"set/{name}")
    if damage != "missing":
        store.put(f"set/{name}", content[:-1])
    with pytest.raises(ShardError, match=f"{URL}/set/{name}: .*{damage}"):
        ShardSet(stored)


def test_a_changed_byte_is_found_by_its_checksum(stored, store):
    for name in ("index.parquet", "leads-00001.array_record"):
        content = bytearray(store.content[f"set/{name}"])
        content[len(content) // 2] ^= 1
        store.put(f"set/{name}", bytes(content))
    index, shard = sorted(shard_faults(stored, checksums=True))
    assert "index.parquet: its content differs" in index
    assert "leads-00001.array_record: its content differs" in shard


def test_what_is_no_set_is_told_in_a_line(stored, store):
    with pytest.raises(ShardError, match="gs://ecg/nowhere: no such folder"):
        ShardSet(f"{URL}/nowhere")
    store.remove("set/manifest.json")
    with pytest.raises(ShardError, match="manifest.json: missing"):
        ShardSet(stored)
