"""The compiled step: the same on one device and on four, and no device does another's work."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from clef_jax import hosts, losses
from clef_jax.losses import pairs
from clef_jax.methods import Method, read_options
from clef_jax.methods.augment import augment_batch
from clef_jax.models import ResNeXt1D
from clef_jax.train import optim
from clef_jax.train.evaluators.validation import make_eval_step
from clef_jax.train.state import create_state
from clef_jax.train.step import make_train_step

SAMPLES, ROWS = 600, 8
# All kinds of block, few of each: it compiles in seconds.
MODEL = ResNeXt1D(
    stem_width=8, ratio=0.5, stage_widths=(8, 16, 32), stage_blocks=(2, 1, 1), group_width=4
)
NOISE = np.random.default_rng(1).normal(size=(4, 15, 2000)).astype(np.float32)
EXAMPLE = jnp.zeros((1, SAMPLES, 1))
SMALLEST = ResNeXt1D(stem_width=8, ratio=1.0, stage_widths=(8,), stage_blocks=(1,), group_width=8)
PAPER = read_options({"name": "clef", "preset": "paper"}).create(MODEL, NOISE)
RELEASED = read_options({"name": "clef"}).create(MODEL, NOISE)


def batch(rows=ROWS):
    rng = np.random.default_rng(0)
    risk = rng.uniform(1, 30, rows).astype(np.float32)
    risk[1] = np.nan
    lead = rng.integers(-30000, 30000, (rows, 1, SAMPLES)).astype(np.int16)
    return {
        "ecg": np.repeat(lead, 2, axis=1),
        "scale_mv": rng.uniform(1e-5, 1e-4, (rows, 2)).astype(np.float32),
        "lead": rng.integers(0, 12, (rows, 2)).astype(np.int32),
        "risk": risk,
        "completeness": rng.uniform(0, 1, rows).astype(np.float32),
    }


def run(devices, steps=3, method=PAPER, ema_decay=None, clip_norm=None):
    mesh = hosts.data_mesh(jax.devices()[:devices])
    optimizer = optim.make_optimizer(optax.constant_schedule(1e-3), clip_norm=clip_norm)
    state = create_state(
        method, optimizer, jax.random.key(0), EXAMPLE, with_ema=ema_decay is not None
    )
    state = jax.device_put(state, hosts.replicated(mesh))
    step = make_train_step(method, optimizer, mesh, seed=0, ema_decay=ema_decay)
    constants = hosts.replicate(method.constants, mesh)
    history = []
    for _ in range(steps):
        state, values = step(state, hosts.to_devices(batch(), mesh), constants)
        history.append(jax.device_get(values))
    assert step._cache_size() == 1
    return jax.device_get(state), history


@pytest.fixture(scope="module")
def one_device():
    return run(1)


@pytest.mark.slow
def test_three_steps_on_four_devices_equal_one(one_device):
    state, history = one_device
    state4, history4 = run(4)
    for values, values4 in zip(history, history4, strict=True):
        for name in values:
            np.testing.assert_allclose(values4[name], values[name], rtol=2e-4, err_msg=name)
    assert int(state4.step) == 3
    # AdamW's first steps move every weight by about the learning rate, whatever the gradient.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), state.params, state4.params
    )


@pytest.mark.slow
def test_gradients_on_four_devices_equal_one():
    mu = {}
    for devices in (1, 4):
        state, _ = run(devices, steps=1)
        mu[devices] = optax.tree.get(state.opt_state, "mu")
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * np.abs(a).max()),
        mu[1],
        mu[4],
    )


@pytest.mark.slow
def test_the_step_reports_what_it_should(one_device):
    _, history = one_device
    assert set(history[0]) == {
        "loss", "contrastive", "dissimilarity", "alignment", "uniformity", "known_risk", "grad_norm"
    }  # fmt: skip
    assert history[0]["known_risk"] == pytest.approx(7 / 8)
    assert history[0]["loss"] == pytest.approx(
        history[0]["contrastive"] + history[0]["dissimilarity"], rel=1e-5
    )


@pytest.mark.slow
def test_the_moving_average_follows_the_weights():
    history = []
    for steps in (1, 2, 3):
        state, _ = run(1, steps=steps, ema_decay=0.9)
        history.append(state.params["encoder"]["stem"]["kernel"])
    start = MODEL.init(jax.random.key(0), EXAMPLE)["params"]["stem"]["kernel"]
    expected = np.asarray(start)
    for weights in history:
        expected = 0.9 * expected + 0.1 * weights
    np.testing.assert_allclose(state.ema["encoder"]["stem"]["kernel"], expected, rtol=1e-5)


@pytest.mark.slow
def test_the_step_trains(one_device):
    _, history = run(1, steps=40)
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]


def method_with_memory():
    """A method with a head, a target network and a queue, as MoCo has them."""

    def init(key, example, encoder):
        params = {"encoder": SMALLEST.init(key, example)["params"], "head": jnp.eye(8) * 2}
        queue = jax.random.normal(key, (12, 8))
        return params, {"target": params["encoder"], "queue": queue}

    def encode(params, carried, batch, constants, keys):
        views = augment_batch(keys, batch, constants["noise"])
        query = SMALLEST.apply({"params": params["encoder"]}, views[::2]) @ params["head"]
        return {"query": query, "key": SMALLEST.apply({"params": carried["target"]}, views[1::2])}

    def loss(params, carried, outputs, axis_name):
        keys, queue = pairs.gather(outputs["key"], axis_name), carried["queue"]
        own = jnp.arange(len(outputs["key"]))
        if axis_name is not None:
            own = own + len(own) * jax.lax.axis_index(axis_name)
        compared = pairs.make_pairs(
            outputs["query"][None],
            outputs["key"][None],
            jnp.concatenate([keys, queue])[None],
            own,
            jnp.arange(len(keys) + len(queue)),
            axis_name=axis_name,
        )
        return losses.info_nce(compared, temperature=0.2)

    def after_update(params, carried, outputs):
        target = optax.incremental_update(params["encoder"], carried["target"], 0.5)
        queue = jnp.concatenate([outputs["key"], carried["queue"]])[:12]
        return {"target": target, "queue": queue}

    return Method(
        needs=frozenset(),
        dtype=jnp.float32,
        constants={"noise": NOISE},
        init=init,
        encode=encode,
        loss=loss,
        after_update=after_update,
    )


@pytest.mark.slow
def test_a_method_may_train_a_head_and_carry_a_queue_and_a_target_network():
    method = method_with_memory()
    start, carried = method.init(jax.random.key(0), EXAMPLE, None)
    found = {}
    run(4, steps=2, method=method)
    for devices in (1, 4):
        state, (values,) = found[devices] = run(devices, steps=1, method=method)
        assert values.keys() == {"loss", "alignment", "uniformity", "grad_norm"}
        assert np.abs(state.params["head"] - start["head"]).max() > 5e-4
        target = jax.tree.map(lambda a, b: (a + b) / 2, start["encoder"], state.params["encoder"])
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
            state.carried["target"],
            target,
        )
        # The batch's keys, row by row, before the first of the queue that was.
        np.testing.assert_array_equal(state.carried["queue"][8:], carried["queue"][:4])
    (one, (values,)), (four, (values4,)) = found.values()
    assert values4["loss"] == pytest.approx(values["loss"], rel=1e-5)
    np.testing.assert_allclose(four.carried["queue"], one.carried["queue"], atol=1e-5)
    assert not np.isclose(one.carried["queue"][:8], carried["queue"][:8]).any()


def compiled(devices, rows):
    mesh = hosts.data_mesh(jax.devices()[:devices])
    optimizer = optim.make_optimizer(optax.constant_schedule(1e-3))

    def initial():
        return create_state(RELEASED, optimizer, jax.random.key(0), EXAMPLE, with_ema=False)

    def placed(tree, sharding):
        return jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), tree
        )

    step = make_train_step(RELEASED, optimizer, mesh, seed=0)
    return step.lower(
        placed(jax.eval_shape(initial), hosts.replicated(mesh)),
        placed(batch(rows), hosts.split_rows(mesh)),
        placed(RELEASED.constants, hosts.replicated(mesh)),
    ).compile()


@pytest.mark.slow
def test_each_of_four_devices_does_a_quarter_of_the_work():
    alone, four = compiled(1, rows=32), compiled(4, rows=32)
    ratio = four.cost_analysis()["flops"] / alone.cost_analysis()["flops"]
    assert 0.24 < ratio <= 0.27
    gathered = re.findall(r"= \w+\[([\d,]*)\]\S* all-gather\(", four.as_text())
    sizes = [np.prod([int(n) for n in shape.split(",") if n]) for shape in gathered]
    assert sizes and max(sizes) <= 2 * 32 * MODEL.stage_widths[-1]


@pytest.mark.slow
def test_evaluation_changes_nothing_and_equals_the_training_loss(one_device):
    _, history = one_device
    mesh = hosts.data_mesh(jax.devices()[:2])
    params, carried = PAPER.init(jax.random.key(0), EXAMPLE, None)
    evaluate = make_eval_step(PAPER, mesh, seed=0, size=ROWS)
    values = evaluate(
        hosts.replicate(params, mesh),
        carried,
        jnp.int32(0),
        hosts.to_devices(batch(), mesh),
        hosts.replicate(PAPER.constants, mesh),
    )
    assert values.keys() == history[0].keys() - {"grad_norm"}
    for name in values:
        np.testing.assert_allclose(values[name], history[0][name], rtol=1e-4, err_msg=name)
