"""The folder of a run: the state that a signal left unvalidated, and what damage does to it."""

import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from clef_jax.checkpoints.meta import CheckpointError
from clef_jax.checkpoints.upgrades import FORMAT_VERSION
from clef_jax.train.state import TrainState
from clef_jax.train.workdir import Unvalidated
from tests.damage import flip_bit


@pytest.fixture
def unvalidated(tmp_path):
    """The state of step 5, saved before it was validated."""
    params = {"encoder": {"kernel": jnp.arange(6.0)}}
    state = TrainState(jnp.int32(5), params, opt_state=(), carried=(), ema=None)
    found = Unvalidated(tmp_path)
    found.save(state, {"format_version": FORMAT_VERSION}, {"train/loss": 1.0})
    return found


def parameters_in(folder):
    return max((f for f in folder.rglob("encoder/**/*") if f.is_file()), key=lambda f: f.name)


def test_the_state_counts_where_it_is_later_than_the_checkpoints(unvalidated, tmp_path):
    for step in (None, 4):
        found = unvalidated.newer_than(step)
        assert found.latest_step() == 5 and found.meta()["row"] == {"train/loss": 1.0}
        found.close()
    assert unvalidated.newer_than(5) is None
    unvalidated.remove()
    assert unvalidated.newer_than(None) is None and not (tmp_path / "unvalidated").exists()


@pytest.mark.parametrize("how", ["a bit flipped", "half removed"])
def test_a_damaged_state_is_set_aside_where_the_run_has_checkpoints(
    unvalidated, tmp_path, caplog, how
):
    step = tmp_path / "unvalidated" / "checkpoints" / "5"
    if how == "a bit flipped":
        flip_bit(parameters_in(step), np.random.default_rng(0))
    else:  # As a run leaves it that is killed while it removes the state.
        shutil.rmtree(step / "encoder")
    assert unvalidated.newer_than(4) is None
    assert not (tmp_path / "unvalidated").exists()
    assert (tmp_path / "unvalidated.damaged" / "checkpoints" / "5").is_dir()
    assert "goes on from step 4" in caplog.text


def test_a_damaged_state_is_an_error_where_it_is_all_that_the_run_has(unvalidated, tmp_path):
    flip_bit(
        parameters_in(tmp_path / "unvalidated" / "checkpoints" / "5"), np.random.default_rng(0)
    )
    with pytest.raises(CheckpointError, match="every checkpoint is damaged"):
        unvalidated.newer_than(None)
    assert (tmp_path / "unvalidated" / "checkpoints" / "5").is_dir()
