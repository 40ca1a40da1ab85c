"""500 flipped bits in what is kept on disks: none is used without a word."""

import pathlib
import shutil

import jax
import numpy as np
import pytest

from clef_jax.checkpoints.encoder import load_params
from clef_jax.checkpoints.meta import CheckpointError
from clef_jax.checkpoints.run import Checkpoints
from clef_jax.data.shards.format import ShardError, shard_faults
from clef_jax.data.shards.store import ShardSet
from tests.checkpoints.test_checkpoints import items_at, saved
from tests.damage import flip_bit
from tests.embed_runs import save, tiny_encoder

pytestmark = pytest.mark.slow
IN_SHARDS, IN_A_CHECKPOINT, IN_AN_ENCODER = 250, 100, 150


def flips(folder, files, count):
    """Flips a bit of a file, so many times, each mended again; every file has its turn."""
    rng = np.random.default_rng(0)
    for number in range(count):
        file = files[number % len(files)]
        whole = flip_bit(file, rng)
        yield file
        file.write_bytes(whole)


def files_in(folder, leave_out=()):
    found = sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size)
    return [path for path in found if path.relative_to(folder).parts[0] not in leave_out]


def test_of_shards(shards_folder, tmp_path):
    copied = pathlib.Path(shutil.copytree(shards_folder, tmp_path / "shards"))
    every = np.arange(len(ShardSet(copied)))

    def used(folder):
        shards = ShardSet(folder)
        known = shards.annotations.fingerprints(shards.annotations.columns)
        return shards.read(every, np.zeros_like(every)), shards.scale_mv, known

    expected = used(copied)
    # What its writer goes on from is compared with what it is asked to write.
    refused = 0
    for file in flips(copied, files_in(copied, {"parts", "plan.json", ".lock"}), IN_SHARDS):
        try:
            found = used(copied)
        except ShardError as error:
            assert file.name in str(error)
            refused += 1
        else:
            # Other leads than those read, or what is no part of the set: the checksums tell.
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_equal(one, other)
            (fault,) = shard_faults(copied, checksums=True)
            assert str(file) in fault
    assert refused > IN_SHARDS // 4


def test_of_an_encoder(tmp_path):
    folder = pathlib.Path(save(tiny_encoder(), tmp_path / "encoder"))
    for file in flips(folder, files_in(folder), IN_AN_ENCODER):
        with pytest.raises(CheckpointError) as error:
            load_params(folder)
        assert file.name in str(error.value)
    load_params(folder)


def test_of_a_runs_checkpoint(tmp_path):
    saved(tmp_path / "run", {1: 1, 2: 2, 3: 2}, with_ema=True).close()
    newest = tmp_path / "run" / "checkpoints" / "3"
    like = items_at(0, with_ema=True)
    for file in flips(newest, files_in(newest), IN_A_CHECKPOINT):
        copy = shutil.copytree(tmp_path / "run", tmp_path / "copy")
        checkpoints = Checkpoints(copy, keep=2)
        step = checkpoints.latest_step()
        # Of Orbax's own notes beside the items nothing is computed.
        assert step == 2 or file.parent == newest and file.name != "SHA256SUMS", file
        found = checkpoints.restore(like)
        checkpoints.close()
        jax.tree.map(np.testing.assert_array_equal, found, items_at(step, with_ema=True))
        shutil.rmtree(copy)
