"""One checkpoint, one embedding, whichever door it comes through, on one device and on four.

Doors of recordings preprocess what they read; shards hold preprocessed samples, in 16 bits. So the
doors of recordings are compared with each other and those of shards with each other; between the
two lies the rounding.
"""

import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from clef_jax import load_encoder
from clef_jax.data.shards.store import ShardSet
from tests.doors import doors
from tests.embed_runs import write_wfdb

ROOT = pathlib.Path(__file__).resolve().parents[2]
OF_RECORDINGS = ("array", "one file", "table of files")
OF_SHARDS = ("table of shards", "report", "map", "apply")


@pytest.fixture(scope="module")
def found(weights, shards_folder, tmp_path_factory):
    """What all doors give here, on four devices, and in a process that has one."""
    folder = tmp_path_factory.mktemp("doors")
    write_wfdb(folder, "long", seconds=370, fs=360)
    paths = (weights, folder / "long.hea", shards_folder)
    assert jax.local_device_count() == 4
    on_four = doors(*paths, folder)
    (folder / "one").mkdir()
    subprocess.run(
        [sys.executable, "-m", "tests.doors", *paths, folder / "one"],
        check=True,
        cwd=ROOT,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "1", "PYTHONPATH": str(ROOT)},
    )
    with np.load(folder / "one" / "embeddings.npz") as arrays:
        on_one = dict(arrays)
    assert on_one.pop("devices") == 1
    return {1: on_one, 4: on_four}


@pytest.mark.parametrize("devices", [1, 4])
@pytest.mark.parametrize("names", [OF_RECORDINGS, OF_SHARDS], ids=["recordings", "shards"])
def test_every_door_gives_the_same_embeddings(found, names, devices):
    expected = found[1][names[0]]
    assert len(expected) > 32 and np.isfinite(expected).all()
    for door in names:
        actual = found[devices][door]
        difference = np.abs(actual - expected).max() / np.abs(expected).max()
        assert actual.shape == expected.shape and difference <= 1e-6, (door, difference)


def test_all_doors_were_tried(found):
    assert found[1].keys() == found[4].keys() == {*OF_RECORDINGS, *OF_SHARDS}


def test_between_recordings_and_shards_lies_the_rounding(found, weights, shards_folder):
    encoder, shards = load_encoder(weights), ShardSet(shards_folder)
    cohort = shards_folder.parent / "cohort"
    expected = np.concatenate(
        [encoder.embed_recording(cohort / name, "II").embedding for name in shards.record[:8]]
    )
    difference = np.abs(found[4]["map"][:8] - expected).max() / np.abs(expected).max()
    assert 0 < difference < 1 / 65_534
