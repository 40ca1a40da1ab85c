"""Encoding a part of the rows at a time: loss and gradients of the whole batch, less memory."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from clef_jax import hosts, losses
from clef_jax.methods import Method, read_options
from clef_jax.train import ahead, optim
from clef_jax.train.data import require_divisible
from clef_jax.train.evaluators.validation import make_eval_step
from clef_jax.train.settings import ConfigError
from clef_jax.train.state import create_state
from clef_jax.train.step import make_train_step

ROWS, SAMPLES, HIDDEN = 16, 32, 4096


def wide_method():
    """Two views, noisy by each row's own key, through a hidden layer, and a loss of all of them."""

    def init(key, example, encoder):
        del example, encoder
        into, out = jax.random.split(key)
        weights = {
            "into": jax.random.normal(into, (SAMPLES, HIDDEN)),
            "out": jax.random.normal(out, (HIDDEN, 8)),
        }
        return {"encoder": weights, "head": jnp.eye(8)}, ()

    def encode(params, carried, batch, constants, keys):
        del carried
        noise = jax.vmap(lambda key: jax.random.normal(key, (2, SAMPLES)))(keys)
        hidden = jnp.tanh((batch["x"] + constants["scale"] * noise) @ params["encoder"]["into"])
        return {"z": hidden @ params["encoder"]["out"]}

    def loss(params, carried, outputs, axis_name):
        del carried
        # Weights that only the loss makes use of have their gradient, too.
        z = (outputs["z"] @ params["head"]).reshape(-1, 8)
        return losses.simclr_loss(z, temperature=0.5, axis_name=axis_name)

    return Method(
        needs=frozenset(),
        dtype=jnp.float32,
        constants={"scale": np.float32(0.1)},
        init=init,
        encode=encode,
        loss=loss,
    )


def batch_of(rows):
    return {"x": np.random.default_rng(0).normal(size=(rows, 2, SAMPLES)).astype(np.float32)}


def step_of(devices, rows_at_once):
    method, mesh = wide_method(), hosts.data_mesh(jax.devices()[:devices])
    optimizer = optim.make_optimizer(optax.constant_schedule(1e-3))
    state = create_state(method, optimizer, jax.random.key(0), jnp.zeros(1), with_ema=False)
    state = jax.device_put(state, hosts.replicated(mesh))
    step = make_train_step(method, optimizer, mesh, seed=3, rows_at_once=rows_at_once)
    return step, state, hosts.replicate(method.constants, mesh), mesh


def gradients(devices, rows_at_once):
    step, state, constants, mesh = step_of(devices, rows_at_once)
    state, metrics = step(state, hosts.to_devices(batch_of(ROWS), mesh), constants)
    # After one step the optimiser's first moment is a multiple of the gradient.
    return jax.device_get((optax.tree.get(state.opt_state, "mu"), metrics))


@pytest.mark.parametrize(
    ("devices", "rows_at_once"),
    [
        (1, 4),
        (4, 2),
        *(pytest.param(*pair, marks=pytest.mark.slow) for pair in ((1, 1), (1, 2), (4, 1), (4, 4))),
    ],
)
def test_loss_and_gradients_are_those_of_the_whole_batch(devices, rows_at_once):
    expected, metrics_of_all = gradients(1, 0)
    found, metrics = gradients(devices, rows_at_once)
    for name, value in metrics_of_all.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5, err_msg=name)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max()),
        found,
        expected,
    )
    assert np.abs(expected["head"]).max() > 0


@pytest.mark.parametrize("devices", [1, 4])
def test_the_validation_loss_is_that_of_the_whole_batch(devices):
    method, losses_found = wide_method(), []
    params, carried = method.init(jax.random.key(0), None, None)
    for count, rows_at_once in ((1, 0), (devices, 2)):
        mesh = hosts.data_mesh(jax.devices()[:count])
        evaluate = make_eval_step(method, mesh, seed=3, size=13, rows_at_once=rows_at_once)
        batch = hosts.to_devices(batch_of(ROWS), mesh)
        constants = hosts.replicate(method.constants, mesh)
        values = evaluate(hosts.replicate(params, mesh), carried, jnp.int32(0), batch, constants)
        losses_found.append(float(values["loss"]))
    assert losses_found[0] == pytest.approx(losses_found[1], rel=1e-6)


def temporaries(rows, rows_at_once):
    step, state, constants, mesh = step_of(1, rows_at_once)
    compiled = step.lower(state, hosts.to_devices(batch_of(rows), mesh), constants).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def test_memory_of_the_encoder_is_that_of_a_part():
    rows, hidden = 256, 256 * 2 * HIDDEN * 4
    assert temporaries(rows, 0) > hidden
    assert temporaries(rows, 16) < hidden / 2


@pytest.mark.slow
def test_a_batch_of_32768_records_takes_bounded_memory():
    """By the compiler's own account; nothing is run. All at once, one activation alone is 10 GB."""
    program = ahead.make_program(
        "clef_small",
        read_options({"name": "clef"}),
        hosts.data_mesh(jax.devices()[:1]),
        dtype="float32",
        remat=False,
        optimizer=optim.make_optimizer(optax.constant_schedule(1e-3)),
        noise=np.broadcast_to(np.float32(0), (4, 15, 300_000)),
        samples=5000,
        rows_at_once=64,
    )
    memory = {rows: ahead.compile_step(program, rows).memory for rows in (1024, 32768)}
    assert memory[1024].temporaries < 2 * 2**30
    # What is left to grow: embeddings, and tiles of their similarities.
    assert memory[32768].temporaries < memory[1024].temporaries + 2**30


@pytest.mark.parametrize("rows_at_once, advice", [(3, "use 1 "), (12, "use 4 "), (32, "use 16")])
def test_parts_that_do_not_divide_a_devices_rows_are_refused(rows_at_once, advice):
    mesh = hosts.data_mesh(jax.devices()[:4])
    for fits in (0, 1, 2, 16):
        require_divisible(64, mesh, fits)
    with pytest.raises(ConfigError, match=f"{rows_at_once} does not divide the 16 .*{advice}"):
        require_divisible(64, mesh, rows_at_once)
