"""How often all pairs are gone through, and by which rows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from clef_jax import hosts
from clef_jax.losses import clef_loss, pairs, simclr_loss, tiles

SUBJECTS, DIM = 16_384, 256


def bodies(equation):
    """The programs inside an operation: of a loop, of a call."""
    for value in jax.tree.leaves(list(equation.params.values())):
        inner = getattr(value, "jaxpr", value)
        if hasattr(inner, "eqns"):
            yield inner


def matmul_flops(jaxpr):
    """Operations of all matrix products, those in loops as often as they run."""
    count = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            terms = np.prod([equation.invars[0].aval.shape[axis] for axis in contracted])
            count += 2 * terms * np.prod(equation.outvars[0].aval.shape)
        inner = sum(matmul_flops(body) for body in bodies(equation))
        assert equation.primitive.name not in ("while", "cond") or not inner
        count += inner * equation.params.get("length", 1)
    return count


@pytest.mark.parametrize("devices", [1, 4])
@pytest.mark.parametrize("loss", [clef_loss, simclr_loss])
def test_a_loss_and_its_gradient_take_three_products_of_the_similaritys_size(loss, devices):
    by_subject = [jax.ShapeDtypeStruct((SUBJECTS,), jnp.float32)] * (loss is clef_loss)
    z = jax.ShapeDtypeStruct((2 * SUBJECTS, DIM), jnp.float32)
    of_all = jax.shard_map(
        functools.partial(loss, axis_name="data"),
        mesh=hosts.data_mesh(jax.devices()[:devices]),
        in_specs=P("data"),
        out_specs=P(),
    )
    jaxpr = jax.make_jaxpr(jax.value_and_grad(of_all, has_aux=True))(z, *by_subject)
    products = devices * matmul_flops(jaxpr.jaxpr) / (2 * (2 * SUBJECTS) ** 2 * DIM)
    # The rest are products of [2N, D] to [D, D].
    assert 3 <= products < 3.1


def test_a_loss_alone_takes_one_product():
    n = 512  # One tile, as the compiler counts the work of a loop once.
    z = jax.ShapeDtypeStruct((2 * n, DIM), jnp.float32)
    cost = jax.jit(simclr_loss).lower(z).compile().cost_analysis()
    assert 1 <= cost["flops"] / (2 * (2 * n) ** 2 * DIM) < 1.2


def test_tiles_are_few_and_hold_every_row_once(monkeypatch):
    for n, fitting in ((5, 6), (7, 1), (36, 6), (97, 40)):
        monkeypatch.setattr(tiles, "_PAIRS_PER_TILE", fitting * n + n // 2)
        sizes = []

        def loss(tile, temperature, sizes=sizes):
            del temperature
            sizes.append(tile.rows.size)
            return jnp.broadcast_to(tile.rows[:, None], tile.positive.shape).astype(jnp.float32)

        of_all = pairs.view_pairs(np.ones((2 * n, 1), np.float32))
        compared = jax.jit(functools.partial(tiles.compare, loss))(of_all, 1.0)
        first, size = sizes
        assert 1 <= first <= size <= fitting
        assert first + (-(-n // fitting) - 1) * size == n
        assert compared.loss == n * (n - 1)  # Of two views each.
        np.testing.assert_array_equal(compared.strangers, n - 1)


@pytest.mark.slow
def test_a_gradient_known_with_its_value_meets_the_chain_rule(x64):
    """The loss of a row is the sum of cubes of its similarities: 4 N^2 of them, in closed form."""
    z = np.random.default_rng(0).normal(size=(10, 3))

    def tiled(z):
        def loss(tile, temperature):
            del temperature
            return jnp.sum(tile.similarity**3, axis=(2, 3)) * tile.positive

        return jnp.sin(tiles.compare(loss, pairs.view_pairs(2 * z), 1.0).loss)

    def whole(z):
        unit = z / jnp.sqrt(jnp.sum(z**2, axis=1, keepdims=True))
        similarity = unit @ unit.T
        partner = np.arange(10) ^ 1
        positive = jnp.sum(unit * unit[partner], axis=1)
        return jnp.sin(jnp.sum(jnp.sum(similarity**3, axis=1) * positive))

    for differentiate in (jax.grad, jax.jacfwd):
        np.testing.assert_allclose(differentiate(tiled)(z), jax.grad(whole)(z), rtol=1e-10)


@pytest.mark.parametrize("devices", [pytest.param(1, marks=pytest.mark.slow), 4])
@pytest.mark.parametrize("loss", [clef_loss, simclr_loss])
def test_a_temperature_can_be_learnt(loss, devices, x64):
    """Its gradient is the slope of the loss between two temperatures near by."""
    rng = np.random.default_rng(0)
    z, risk = rng.normal(size=(16, 5)), rng.uniform(1, 30, 8)
    by_subject = [risk] * (loss is clef_loss)

    def of_all(temperature):
        found = jax.shard_map(
            lambda t, *rows: loss(*rows, temperature=t, axis_name="data")[0],
            mesh=hosts.data_mesh(jax.devices()[:devices]),
            in_specs=(P(), P("data"), *[P("data")] * len(by_subject)),
            out_specs=P(),
        )
        return found(temperature, z, *by_subject)

    of_all = jax.jit(of_all)
    slope = (of_all(0.3 + 1e-6) - of_all(0.3 - 1e-6)) / 2e-6
    assert abs(slope) > 0.01
    # The shift of a row's logits has no gradient, as in the released code, whose guard of 1e-8 then
    # does not cancel.
    np.testing.assert_allclose(jax.grad(of_all)(0.3), slope, rtol=1e-6)


def test_risk_is_no_parameter():
    z = jax.random.normal(jax.random.key(0), (8, 3))
    of_risk = jax.jit(jax.grad(lambda risk: clef_loss(z, risk)[0]))
    gradient = of_risk(jnp.array([1.0, 2.0, 8.0, 9.0]))
    np.testing.assert_array_equal(gradient, 0)
