"""Checkpoints for which there is no room: refused in a line, or failed in one, and nothing left."""

import contextlib
import gc
import logging
import time

import jax.numpy as jnp
import numpy as np
import pytest

from clef_jax.checkpoints.encoder import save_encoder
from clef_jax.checkpoints.room import NoRoom
from clef_jax.checkpoints.run import Checkpoints
from clef_jax.cli.ending import line_of
from tests.limits import no_file_above


def encoder(of):
    rng = np.random.default_rng(0)
    return {f"layer{i}": {"kernel": of(rng.normal(size=(64, 64)))} for i in range(40)}


def save_folder(folder):
    save_encoder(folder / "weights", encoder(np.float32), {})


def save_step(folder):
    with contextlib.closing(Checkpoints(folder)) as checkpoints:
        checkpoints.save(1, {"encoder": encoder(jnp.float32), "rest": encoder(jnp.float32)}, {})
        checkpoints.wait()


def test_what_no_disk_holds_is_not_begun(tmp_path):
    petabytes = {"kernel": np.broadcast_to(np.float32(1), (10**15,))}
    with pytest.raises(NoRoom, match=r"a checkpoint takes 4,000,000,000\.\d MB, .* free; .*again"):
        save_encoder(tmp_path / "weights", petabytes, {})
    with contextlib.closing(Checkpoints(tmp_path / "run")) as checkpoints:
        with pytest.raises(NoRoom):
            checkpoints.save(1, {"encoder": petabytes}, {})
        assert checkpoints.latest_step() is None
    assert [path.name for path in tmp_path.rglob("*")] == ["run", "checkpoints"]


@pytest.mark.parametrize("save", [save_folder, save_step])
def test_writes_that_fail_are_told_once_and_are_gone(save, tmp_path, capfd, caplog):
    folders = [tmp_path / str(attempt) for attempt in range(2)]
    with no_file_above(65_536), caplog.at_level(logging.ERROR):
        for folder in folders:
            with pytest.raises(Exception) as raised:
                save(folder)
            assert "File too large; what is there already stays" in line_of(raised.value)
            gc.collect()
        time.sleep(0.2)  # What else is written in the background ends.
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    save(folders[0])
    assert not [path for path in folders[0].rglob("*") if "tmp" in path.name]
