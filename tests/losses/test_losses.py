"""Both losses against whole-matrix float64 transcriptions, gradients by finite differences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from clef_jax.losses import PRESETS, clef_loss, simclr_loss, tiles
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


def value_and_gradient(preset, **options):
    """Returns the compiled function; anew, as the size of tiles is no argument of it."""
    loss = functools.partial(clef_loss, **PRESETS[preset], **options)
    return jax.jit(jax.value_and_grad(loss, has_aux=True))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("kind", RISKS)
@pytest.mark.parametrize("n", [pytest.param(2, marks=pytest.mark.slow), 7])
def test_clef_loss_and_gradient(preset, kind, n, x64):
    z, risk, completeness = batch(n, kind)
    expected = functools.partial(
        oracle.clef, risk=risk, completeness=completeness, **PRESETS[preset]
    )
    (actual, _), gradient = value_and_gradient(preset)(z, risk, completeness)
    np.testing.assert_allclose(actual, expected(z), rtol=1e-12)
    np.testing.assert_allclose(
        gradient, oracle.finite_differences(expected, z), rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize(
    ("preset", "temperature"),
    [
        ("released", 1e-2),
        pytest.param("released", 1e3, marks=pytest.mark.slow),
        pytest.param("paper", 1e-2, marks=pytest.mark.slow),
        pytest.param("paper", 1e3, marks=pytest.mark.slow),
    ],
)
def test_extreme_temperatures(preset, temperature, x64):
    z, risk, completeness = batch(5)
    options = PRESETS[preset] | {"temperature": temperature}
    expected = oracle.clef(z, risk, completeness, **options)
    (actual, _), _ = value_and_gradient(preset, temperature=temperature)(z, risk, completeness)
    np.testing.assert_allclose(actual, expected, rtol=1e-12)
    arrays = (jnp.asarray(a, jnp.float32) for a in (z, risk, completeness))
    (actual, _), gradient = value_and_gradient(preset, temperature=temperature)(*arrays)
    np.testing.assert_allclose(actual, expected, rtol=1e-4)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("spread", "preset"),
    [
        (0.1, "released"),
        pytest.param(0.1, "paper", marks=pytest.mark.slow),
        pytest.param(0.3, "released", marks=pytest.mark.slow),
        pytest.param(0.3, "paper", marks=pytest.mark.slow),
    ],
)
def test_embeddings_that_are_all_alike_lose_little_in_float32(preset, spread, x64):
    """As an encoder's may be at first: 1 - S is then no more than thousands of S's roundings."""
    z, risk, completeness = batch(64, "some_unknown", dim=32)
    arrays = [a.astype(np.float32) for a in (1 + spread / 3 * z, risk, completeness)]
    exact = value_and_gradient(preset)(*(a.astype(np.float64) for a in arrays))
    (_, parts), gradient = value_and_gradient(preset)(*arrays)
    np.testing.assert_allclose(parts["dissimilarity"], exact[0][1]["dissimilarity"], rtol=1e-3)
    np.testing.assert_allclose(gradient, exact[1], rtol=0, atol=1e-3 * np.abs(exact[1]).max())


def test_simclr_loss_and_gradient(x64):
    z, _, _ = batch(6)
    (actual, _), gradient = jax.jit(jax.value_and_grad(simclr_loss, has_aux=True))(z)
    np.testing.assert_allclose(actual, oracle.simclr(z), rtol=1e-12)
    np.testing.assert_allclose(
        gradient, oracle.finite_differences(oracle.simclr, z), rtol=1e-5, atol=1e-7
    )


def test_alignment_and_uniformity(x64):
    z, risk, _ = batch(5)
    alignment, uniformity = oracle.alignment_and_uniformity(z)
    for _, parts in (jax.jit(clef_loss)(z, risk), jax.jit(simclr_loss)(z)):
        np.testing.assert_allclose(parts["alignment"], alignment, rtol=1e-12)
        np.testing.assert_allclose(parts["uniformity"], uniformity, rtol=1e-12)


@pytest.mark.parametrize("preset", ["paper", pytest.param("released", marks=pytest.mark.slow)])
def test_float32_is_near_float64(preset):
    z, risk, completeness = batch(16, "some_unknown")
    expected = oracle.clef(z, risk, completeness, **PRESETS[preset])
    loss = jax.jit(functools.partial(clef_loss, **PRESETS[preset]))
    actual, _ = loss(*(jnp.asarray(a, jnp.float32) for a in (z, risk, completeness)))
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


@pytest.mark.parametrize(
    "preset", ["paper", "simclr", pytest.param("released", marks=pytest.mark.slow)]
)
def test_an_all_zero_embedding_has_a_finite_gradient(preset):
    z, risk, completeness = (a.astype(np.float32) for a in batch(4))
    z[3] = 0

    def loss(z):
        if preset == "simclr":
            return simclr_loss(z)
        return clef_loss(z, risk, completeness, **PRESETS[preset])

    (value, parts), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(z)
    assert np.isfinite(value) and np.isfinite(gradient).all()
    assert all(np.isfinite(part) for part in parts.values())


@pytest.mark.parametrize(
    ("preset", "n"),
    [
        ("released", 13),  # Tiles of three, and one of a single row.
        pytest.param("released", 12, marks=pytest.mark.slow),
        pytest.param("paper", 12, marks=pytest.mark.slow),
        pytest.param("paper", 13, marks=pytest.mark.slow),
    ],
)
def test_tiles_change_nothing(preset, n, x64, monkeypatch):
    z, risk, completeness = batch(n, "some_unknown")
    whole = value_and_gradient(preset)(z, risk, completeness)
    monkeypatch.setattr(tiles, "_PAIRS_PER_TILE", 3 * n)
    tiled = value_and_gradient(preset)(z, risk, completeness)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), whole, tiled)


@pytest.mark.parametrize("preset", ["paper", pytest.param("released", marks=pytest.mark.slow)])
def test_four_devices_equal_one(preset, x64):
    z, risk, completeness = batch(8, "some_unknown")
    loss = functools.partial(clef_loss, **PRESETS[preset])
    expected = jax.jit(jax.value_and_grad(loss, has_aux=True))(z, risk, completeness)

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
