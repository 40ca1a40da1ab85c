"""States split over the devices: which part lies where, and that nothing else changes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from clef_jax import hosts
from clef_jax.checkpoints.encoder import load_params
from clef_jax.checkpoints.items import params_sha256
from clef_jax.checkpoints.run import Checkpoints
from clef_jax.methods import read_options
from clef_jax.models import ResNeXt1D
from clef_jax.train import optim
from clef_jax.train.placement import state_shardings
from clef_jax.train.state import TrainState, create_state, state_from_items
from clef_jax.train.step import make_train_step

SAMPLES, ROWS = 200, 8
MODEL = ResNeXt1D(stem_width=8, ratio=1.0, stage_widths=(12,), stage_blocks=(1,), group_width=4)
NOISE = np.random.default_rng(1).normal(size=(4, 15, 2000)).astype(np.float32)
METHOD = read_options({"name": "clef"}).create(MODEL, NOISE)
OPTIMIZER = optim.make_optimizer(optax.constant_schedule(1e-3), clip_norm=0.5)


def mesh_of(devices):
    return hosts.data_mesh(jax.devices()[:devices])


def initial():
    return create_state(
        METHOD, OPTIMIZER, jax.random.key(0), jnp.zeros((1, SAMPLES, 1)), with_ema=True
    )


LIKE = jax.eval_shape(initial)


def shardings_on(devices, split):
    return state_shardings(LIKE, mesh_of(devices), split=split)


def batch():
    rng = np.random.default_rng(0)
    return {
        "ecg": rng.integers(-30000, 30000, (ROWS, 2, SAMPLES)).astype(np.int16),
        "scale_mv": rng.uniform(1e-5, 1e-4, (ROWS, 2)).astype(np.float32),
        "lead": rng.integers(0, 12, (ROWS, 2)).astype(np.int32),
        "risk": rng.uniform(1, 30, ROWS).astype(np.float32),
    }


def step_on(devices, split):
    return make_train_step(
        METHOD,
        OPTIMIZER,
        mesh_of(devices),
        seed=0,
        ema_decay=0.9,
        shardings=shardings_on(devices, split),
    )


def run(devices, *, split, steps=4):
    state = jax.jit(initial, out_shardings=shardings_on(devices, split))()
    step, mesh = step_on(devices, split), mesh_of(devices)
    constants, history = hosts.replicate(METHOD.constants, mesh), []
    for _ in range(steps):
        state, values = step(state, hosts.to_devices(batch(), mesh), constants)
        history.append(jax.device_get(values))
    assert step._cache_size() == 1
    return state, history


def compiled(devices, split):
    mesh = mesh_of(devices)
    return (
        step_on(devices, split)
        .lower(
            hosts.shapes_at(LIKE, shardings_on(devices, split)),
            hosts.shapes_at(batch(), hosts.split_rows(mesh)),
            hosts.shapes_at(METHOD.constants, hosts.replicated(mesh)),
        )
        .compile()
    )


@pytest.fixture(scope="module")
def four():
    """The states and metrics of a run on four devices, by whether it is split."""
    return {split: run(4, split=split) for split in (False, True)}


def bytes_of(tree):
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def bytes_of_a_quarter(tree):
    """The bytes of one device in four: of an array without an axis that 4 divides, all."""
    leaves = jax.tree.leaves(tree)
    return sum(bytes_of(a) if all(n % 4 for n in a.shape) else bytes_of(a) // 4 for a in leaves)


@pytest.mark.parametrize(
    ("shape", "devices", "part"),
    [
        ((), 4, ()),
        ((12,), 4, (3,)),
        ((12,), 8, (12,)),
        ((16, 4, 24), 4, (16, 4, 6)),
        ((16, 4, 24), 16, (1, 4, 24)),
        ((8, 8), 4, (2, 8)),
        ((5, 7), 4, (5, 7)),
        ((0, 3), 4, (0, 3)),
    ],
)
def test_the_longest_axis_that_divides_is_split(shape, devices, part):
    mesh = jax.sharding.AbstractMesh((devices,), (hosts.DATA_AXIS,))
    leaf = jax.ShapeDtypeStruct(shape, jnp.float32)
    state = TrainState(leaf, {"encoder": leaf}, (leaf,), {"queue": leaf}, None)
    split = state_shardings(state, mesh, split=True)
    assert split.params["encoder"].shard_shape(shape) == part
    assert split.opt_state[0].shard_shape(shape) == part
    assert split.carried["queue"].shard_shape(shape) == shape
    whole = state_shardings(state, mesh, split=False)
    assert {s.shard_shape(shape) for s in jax.tree.leaves(whole)} == {shape}


@pytest.mark.slow
def test_split_states_learn_as_whole_ones_do(four):
    (whole, history), (split, split_history) = four[False], four[True]
    for values, split_values in zip(history, split_history, strict=True):
        assert values.keys() == split_values.keys()
        for name in values:
            np.testing.assert_allclose(split_values[name], values[name], rtol=2e-5, err_msg=name)
    for name in ("params", "ema"):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=5e-5),
            jax.device_get(getattr(whole, name)),
            jax.device_get(getattr(split, name)),
        )


@pytest.mark.slow
def test_each_device_holds_its_part_alone(four):
    (whole, _), (split, _) = four[False], four[True]
    for part in ("params", "opt_state", "ema"):
        held, all_of_it = (
            bytes_of(
                [leaf.addressable_shards[0].data for leaf in jax.tree.leaves(getattr(s, part))]
            )
            for s in (split, whole)
        )
        assert all_of_it == bytes_of(getattr(LIKE, part))
        assert held == bytes_of_a_quarter(getattr(LIKE, part)) < 0.27 * all_of_it


@pytest.mark.slow
def test_the_compiled_step_takes_the_memory_of_its_parts():
    whole, split = (compiled(4, split).memory_analysis() for split in (False, True))
    saved = bytes_of(LIKE) - bytes_of_a_quarter(LIKE)
    assert whole.argument_size_in_bytes - split.argument_size_in_bytes == saved
    # The state is changed in place in either form.
    assert whole.alias_size_in_bytes - split.alias_size_in_bytes == saved


@pytest.mark.slow
@pytest.mark.parametrize("before", [False, True])
def test_a_state_saved_in_either_form_goes_on_in_either_form(four, tmp_path, before):
    state, _ = four[before]
    expected = jax.device_get(state)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(5, state.items(), {})
    checkpoints.wait()
    for devices, split in ((4, True), (4, False), (2, True), (3, True), (1, False)):
        shardings = shardings_on(devices, split)
        found = state_from_items(checkpoints.restore(hosts.shapes_at(LIKE, shardings).items()))
        jax.tree.map(np.testing.assert_array_equal, jax.device_get(found), expected)
        jax.tree.map(lambda leaf, s: leaf.sharding.is_equivalent_to(s, leaf.ndim) or pytest.fail(
            f"{leaf.sharding} instead of {s}"), found, shardings)  # fmt: skip
    checkpoints.close()
    # What users load is the average, as it always was.
    params, meta = load_params(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, params, expected.ema["encoder"])
    assert meta["weights_sha256"] == params_sha256(expected.ema["encoder"])


@pytest.mark.slow
def test_whole_arrays_are_not_copied_and_split_ones_are_gathered(four):
    (whole, _), (split, _) = four[False], four[True]
    same = hosts.whole(whole.params)
    assert all(a is b for a, b in zip(*map(jax.tree.leaves, (same, whole.params)), strict=True))
    gathered = hosts.whole(split.params)
    assert all(leaf.is_fully_replicated for leaf in jax.tree.leaves(gathered))
    jax.tree.map(np.testing.assert_array_equal, gathered, jax.device_get(split.params))
