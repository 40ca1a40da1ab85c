"""One checkpoint, one embedding, whichever door it comes through, on one device and on four.

Shards hold preprocessed samples in 16 bits. So that all doors see the same, those of recordings get
the shards' samples, and the preprocessing is ECGFounder's, which only normalises what has its rate
and no gaps.
"""

import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from clef_jax import load_encoder
from clef_jax.checkpoints.encoder import save_encoder
from clef_jax.data.shards.plan import WriteOptions
from clef_jax.data.shards.store import ShardSet
from clef_jax.data.shards.write import write_shards
from clef_jax.data.signals.spec import ECGFOUNDER
from clef_jax.inference import encoder_meta
from clef_jax.inference.shards import embed_records, slots_of_lead
from tests.doors import doors
from tests.embed_runs import TINY, tiny_encoder

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOORS = (
    "array", "recording", "table of recordings", "table of shards", "report", "map", "apply"
)  # fmt: skip


@pytest.fixture(scope="module")
def paths(shards_folder, tmp_path_factory):
    """Weights and shards of ECGFounder's preprocessing."""
    folder = tmp_path_factory.mktemp("doors")
    params = tiny_encoder().params
    save_encoder(folder / "weights", params, encoder_meta(TINY, params, {}, ECGFOUNDER))
    cohort = shards_folder.parent / "cohort"
    options = WriteOptions(spec=ECGFOUNDER)
    write_shards(cohort, folder / "shards", options=options, workers=1, progress=False)
    return str(folder / "weights"), str(folder / "shards")


@pytest.fixture(scope="module")
def found(paths, tmp_path_factory):
    """What all doors give here, on four devices, and in a process that has one."""
    assert jax.local_device_count() == 4
    on_four = doors(*paths, tmp_path_factory.mktemp("four"))
    folder = tmp_path_factory.mktemp("one")
    subprocess.run(
        [sys.executable, "-m", "tests.doors", *paths, folder],
        check=True,
        cwd=ROOT,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "1", "PYTHONPATH": str(ROOT)},
    )
    with np.load(folder / "embeddings.npz") as arrays:
        on_one = dict(arrays)
    assert on_one.pop("devices") == 1
    return {1: on_one, 4: on_four}


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 4])
@pytest.mark.parametrize("door", DOORS)
def test_every_door_gives_the_same_embeddings(found, door, devices):
    assert found[devices].keys() == set(DOORS)
    expected, actual = found[1]["apply"], found[devices][door]
    assert len(expected) > 64 and np.ptp(expected, axis=0).min() > 0
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def test_between_a_recording_and_its_shards_lies_the_rounding_alone(weights, shards_folder):
    """With the band-pass: half a step of 65,534 between the extremes, and no more."""
    encoder, shards = load_encoder(weights), ShardSet(shards_folder)
    cohort, records = shards_folder.parent / "cohort", np.arange(8)
    expected = np.concatenate(
        [encoder.embed_recording(cohort / shards.record[i], "II").embedding for i in records]
    )
    found = embed_records(encoder.forward, shards, records, slots_of_lead(shards, records, "II"))
    assert 0 < np.abs(found - expected).max() < np.abs(expected).max() / 65_534
