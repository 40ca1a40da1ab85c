"""Both losses against whole-matrix float64 transcriptions, gradients by finite differences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from clef_jax.losses import PRESETS, clef_loss, pairs, simclr_loss
from tests.oracles import losses as oracle

RISKS = {
    "mixed": lambda n, rng: rng.uniform(0.5, 40, n),
    "some_unknown": lambda n, rng: np.where(np.arange(n) % 3 == 1, np.nan, rng.uniform(1, 30, n)),
    "one_known": lambda n, rng: np.where(np.arange(n) == 0, 12.0, np.nan),
    "all_equal": lambda n, rng: np.full(n, 7.0),
    "all_unknown": lambda n, rng: np.where(np.arange(n) % 2, np.nan, np.inf),
}


def batch(n, kind="mixed", dim=6):
    rng = np.random.default_rng(n)
    z = rng.normal(size=(2 * n, dim))
    completeness = np.where(np.arange(n) % 4 == 3, np.nan, rng.uniform(0, 1, n))
    return z, RISKS[kind](n, rng), completeness


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("kind", RISKS)
@pytest.mark.parametrize("n", [2, 7])
def test_clef_loss_and_gradient(preset, kind, n, x64):
    z, risk, completeness = batch(n, kind)
    expected = functools.partial(
        oracle.clef, risk=risk, completeness=completeness, **PRESETS[preset]
    )
    (actual, _), gradient = jax.value_and_grad(clef_loss, has_aux=True)(
        z, risk, completeness, **PRESETS[preset]
    )
    np.testing.assert_allclose(actual, expected(z), rtol=1e-12)
    np.testing.assert_allclose(
        gradient, oracle.finite_differences(expected, z), rtol=1e-5, atol=1e-7
    )


def test_simclr_loss_and_gradient(x64):
    z, _, _ = batch(6)
    (actual, _), gradient = jax.value_and_grad(simclr_loss, has_aux=True)(z)
    np.testing.assert_allclose(actual, oracle.simclr(z), rtol=1e-12)
    np.testing.assert_allclose(
        gradient, oracle.finite_differences(oracle.simclr, z), rtol=1e-5, atol=1e-7
    )


def test_alignment_and_uniformity(x64):
    z, risk, _ = batch(5)
    alignment, uniformity = oracle.alignment_and_uniformity(z)
    for _, parts in (clef_loss(z, risk), simclr_loss(z)):
        np.testing.assert_allclose(parts["alignment"], alignment, rtol=1e-12)
        np.testing.assert_allclose(parts["uniformity"], uniformity, rtol=1e-12)


@pytest.mark.parametrize("preset", PRESETS)
def test_float32_is_near_float64(preset):
    z, risk, completeness = batch(16, "some_unknown")
    expected = oracle.clef(z, risk, completeness, **PRESETS[preset])
    actual, _ = clef_loss(
        *(jnp.asarray(a, jnp.float32) for a in (z, risk, completeness)), **PRESETS[preset]
    )
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


@pytest.mark.parametrize("preset", [*PRESETS, "simclr"])
def test_an_all_zero_embedding_has_a_finite_gradient(preset):
    z, risk, completeness = (a.astype(np.float32) for a in batch(4))
    z[3] = 0

    def loss(z):
        if preset == "simclr":
            return simclr_loss(z)
        return clef_loss(z, risk, completeness, **PRESETS[preset])

    (value, parts), gradient = jax.value_and_grad(loss, has_aux=True)(z)
    assert np.isfinite(value) and np.isfinite(gradient).all()
    assert all(np.isfinite(part) for part in parts.values())


def test_tiles_are_few_and_hold_every_row_once(monkeypatch):
    for n, fitting in ((5, 6), (7, 1), (13, 6), (36, 6), (97, 40)):
        monkeypatch.setattr(pairs, "_PAIRS_PER_TILE", fitting * n + n // 2)
        of_all = pairs.view_pairs(np.ones((2 * n, 1), np.float32))
        sizes, sums = pairs.map_tiles(
            lambda tile: (jnp.int32(tile.rows.size), jnp.sum(tile.rows)), of_all
        )
        assert sizes.max() <= fitting and len(sizes) == -(-n // fitting)
        assert sizes.sum() == n and sums.sum() == n * (n - 1) // 2


@pytest.mark.parametrize("n", [12, 13])  # Tiles of three, and with one of a single row.
@pytest.mark.parametrize("preset", PRESETS)
def test_tiles_change_nothing(preset, n, x64, monkeypatch):
    z, risk, completeness = batch(n, "some_unknown")
    whole = jax.value_and_grad(clef_loss, has_aux=True)(z, risk, completeness, **PRESETS[preset])
    monkeypatch.setattr(pairs, "_PAIRS_PER_TILE", 3 * n)
    tiled = jax.value_and_grad(clef_loss, has_aux=True)(z, risk, completeness, **PRESETS[preset])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), whole, tiled)


@pytest.mark.parametrize("preset", PRESETS)
def test_four_devices_equal_one(preset, x64):
    z, risk, completeness = batch(8, "some_unknown")
    loss = functools.partial(clef_loss, **PRESETS[preset])
    expected = jax.value_and_grad(loss, has_aux=True)(z, risk, completeness)

    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    sharded = jax.shard_map(
        functools.partial(loss, axis_name="data"), mesh=mesh, in_specs=P("data"), out_specs=P()
    )
    actual = jax.jit(jax.value_and_grad(sharded, has_aux=True))(z, risk, completeness)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), expected, actual)


def test_memory_of_a_batch_of_16384_is_bounded():
    """Whole 2N x 2N float32 matrices would be 4.3 GB each."""
    n = 16_384
    arguments = (
        jax.ShapeDtypeStruct((2 * n, 256), jnp.float32),
        jax.ShapeDtypeStruct((n,), jnp.float32),
    )
    compiled = jax.jit(jax.value_and_grad(clef_loss, has_aux=True)).lower(*arguments).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 1e9


def test_wrong_shapes_are_refused():
    z, risk, _ = batch(4)
    with pytest.raises(ValueError, match=r"risk must be \[4\].*found \(5,\)"):
        clef_loss(z, np.append(risk, 1))
    with pytest.raises(ValueError, match="two rows a subject"):
        simclr_loss(z[:7])
    with pytest.raises(ValueError, match="at least two subjects"):
        simclr_loss(z[:2])
    with pytest.raises(ValueError, match="completeness"):
        clef_loss(z, risk, **PRESETS["paper"])
