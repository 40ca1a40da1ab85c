"""Checkpoints: what is kept, what is restored, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from clef_jax import checkpoint, parallel
from clef_jax.train import optim
from clef_jax.train.state import create_state

OPTIMIZER = optim.make_optimizer(optax.constant_schedule(1e-3))


def state_at(step, with_ema=False, width=3):
    params = {"stem": {"kernel": jnp.full((2, width), step / 10), "bias": jnp.arange(width) * 1.0}}
    state = create_state(params, OPTIMIZER, with_ema=with_ema)
    if with_ema:
        state = state.replace(ema=jax.tree.map(lambda a: a + 0.5, params))
    return state.replace(step=jnp.int32(step))


def saved(workdir, losses, **options):
    checkpoints = checkpoint.Checkpoints(workdir, keep=2)
    for step, loss in losses.items():
        checkpoints.save(state_at(step, **options), {"step": step}, loss)
    checkpoints.wait()
    return checkpoints


def steps_in(workdir):
    return sorted(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())


def test_the_last_two_and_the_best_are_kept(tmp_path):
    checkpoints = saved(tmp_path, {1: 5.0, 2: 3.0, 3: None, 4: 4.0, 5: None, 6: 6.0})
    assert steps_in(tmp_path) == [2, 5, 6]
    assert checkpoints.latest_step() == 6
    assert checkpoints.meta() == {"step": 6}
    checkpoints.close()
    # The best is remembered when the run goes on.
    saved(tmp_path, {7: None, 8: 7.0, 9: None}).close()
    assert steps_in(tmp_path) == [2, 8, 9]


@pytest.mark.parametrize("with_ema", [False, True])
def test_a_state_comes_back_bit_for_bit_on_any_number_of_devices(tmp_path, with_ema):
    checkpoints = saved(tmp_path, {4: None}, with_ema=with_ema)
    expected = state_at(4, with_ema=with_ema)
    for devices in (1, 4):
        mesh = parallel.data_mesh(jax.devices()[:devices])
        found = checkpoints.restore(jax.eval_shape(lambda: expected), mesh)
        jax.tree.map(np.testing.assert_array_equal, found, expected)
        assert len(found.params["stem"]["bias"].devices()) == devices
    checkpoints.close()


def test_another_model_is_refused_with_every_difference(tmp_path):
    checkpoints = saved(tmp_path, {4: None})
    with pytest.raises(checkpoint.CheckpointError) as error:
        checkpoints.restore(state_at(0, width=5), parallel.data_mesh())
    assert "stem/kernel: ((2, 3), 'float32') stored, ((2, 5), 'float32') expected" in str(
        error.value
    )
    assert "stem/bias" in str(error.value) and "another workdir" in str(error.value)
    checkpoints.close()


def test_saving_an_old_step_is_an_error(tmp_path):
    checkpoints = saved(tmp_path, {4: None})
    with pytest.raises(checkpoint.CheckpointError, match="step 4 is there already"):
        checkpoints.save(state_at(3), {}, None)
    checkpoints.close()


def test_load_params_takes_the_best_then_the_newest_and_prefers_the_average(tmp_path):
    saved(tmp_path / "best", {1: 2.0, 2: 1.0, 3: None}).close()
    saved(tmp_path / "newest", {1: None, 2: None}).close()
    saved(tmp_path / "average", {1: None}, with_ema=True).close()
    for workdir, step in (("best", 2), ("newest", 2), ("average", 1)):
        for folder in (tmp_path / workdir, tmp_path / workdir / "checkpoints"):
            params, meta = checkpoint.load_params(folder)
            assert meta == {"step": step}
            expected = step / 10 + (0.5 if workdir == "average" else 0)
            assert isinstance(params["stem"]["kernel"], np.ndarray)
            np.testing.assert_array_equal(params["stem"]["kernel"], np.float32(expected))
    params, meta = checkpoint.load_params(tmp_path / "best" / "checkpoints" / "3")
    assert meta == {"step": 3}


def test_an_encoder_folder_round_trips_and_is_not_overwritten(tmp_path):
    params = jax.tree.map(np.asarray, state_at(7).params)
    checkpoint.save_encoder(tmp_path / "encoder", params, {"model": {"name": "x"}})
    found, meta = checkpoint.load_params(tmp_path / "encoder")
    jax.tree.map(np.testing.assert_array_equal, found, params)
    assert meta == {"model": {"name": "x"}}
    with pytest.raises(checkpoint.CheckpointError, match="exists already"):
        checkpoint.save_encoder(tmp_path / "encoder", params, {})


def test_a_folder_without_checkpoint_is_named(tmp_path):
    with pytest.raises(checkpoint.CheckpointError, match=f"{tmp_path}: no checkpoint here"):
        checkpoint.load_params(tmp_path)
