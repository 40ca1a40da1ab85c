"""Maximum and mean over time beside their argument, against loops and sums in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clef_jax.ops import pooling

FORMS = (pooling._add_by_pairs, pooling._add_by_neighbours)


def draws(seed, samples):
    """Arrays of small whole numbers, so that many neighbours tie and sums are exact."""
    rng = np.random.default_rng(seed)
    x, dx = rng.integers(-2, 3, (2, 3, samples, 2)).astype(np.float32)
    dmax = rng.integers(-4, 5, (3, -(-samples // 2), 2)).astype(np.float32)
    return x, dx, dmax


def maxima(x):
    expected = np.zeros((len(x), -(-x.shape[1] // 2), x.shape[2]), x.dtype)
    for pair in range(expected.shape[1]):
        first = x[:, 2 * pair]
        second = x[:, 2 * pair + 1] if 2 * pair + 1 < x.shape[1] else np.zeros_like(first)
        expected[:, pair] = np.maximum(first, second)
    return expected


def gradient(x, dx, dmax):
    expected = dx.copy()
    for n, pair, c in np.ndindex(dmax.shape):
        first = x[n, 2 * pair, c]
        second = x[n, 2 * pair + 1, c] if 2 * pair + 1 < x.shape[1] else 0
        winner = 2 * pair if first >= second else 2 * pair + 1
        if winner < x.shape[1]:
            expected[n, winner, c] += dmax[n, pair, c]
    return expected


@pytest.mark.parametrize(
    "samples", [1, 7, 8, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 313))]
)
def test_maxima_of_pairs_with_an_odd_end_beside_zero(samples):
    x, dx, dmax = draws(samples, samples)
    (same, found), pull = jax.vjp(pooling.beside_max_of_pairs, x)
    np.testing.assert_array_equal(same, x)
    np.testing.assert_array_equal(found, maxima(x))
    np.testing.assert_array_equal(
        pull((jnp.asarray(dx), jnp.asarray(dmax)))[0], gradient(x, dx, dmax)
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "samples", [7, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 8, 313))]
)
def test_either_form_gives_a_maximums_gradient_to_the_first_of_the_greatest(form, samples):
    x, dx, dmax = draws(100 + samples, samples)
    np.testing.assert_array_equal(form(x, dx, dmax), gradient(x, dx, dmax))


def test_the_mean_and_its_gradient_are_summed_in_float32():
    rng = np.random.default_rng(0)
    x, dx = (jnp.asarray(rng.normal(0.5, 1, (3, 2000, 5)), jnp.bfloat16) for _ in range(2))
    dmean = jnp.asarray(rng.normal(0, 200, (3, 5)), jnp.float32)
    (same, mean), pull = jax.vjp(pooling.beside_mean, x)
    np.testing.assert_array_equal(same, x)
    assert mean.dtype == jnp.float32
    np.testing.assert_allclose(mean, np.float64(x).mean(axis=1), rtol=1e-5)
    expected = np.float64(dx) + np.float64(dmean)[:, None] / 2000
    # Rounded once, to bfloat16's eight bits.
    np.testing.assert_allclose(np.float64(pull((dx, dmean))[0]), expected, rtol=0.004, atol=1e-6)
