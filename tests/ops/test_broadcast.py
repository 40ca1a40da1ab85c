"""Channel-wise sums and products against their definition in float64 numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clef_jax.ops.broadcast import add_bias, scale_channels


def example(shapes, dtype):
    """Arrays of `dtype`, and the same numbers in float64."""
    rng = np.random.default_rng(0)
    arrays = [jnp.asarray(rng.normal(0.5, 1, shape), dtype) for shape in shapes]
    return arrays, [np.asarray(a, np.float64) for a in arrays]


@pytest.mark.parametrize("shape", [(3, 2000, 5), (4000, 5), (5,)])
def test_a_bias_of_float32_added_in_bfloat16_has_a_float32_gradient(shape):
    (y, dy), (y64, dy64) = example([shape] * 2, jnp.bfloat16)
    (bias,), (bias64,) = example([(5,)], jnp.float32)
    found, pull = jax.vjp(add_bias, y, bias)
    dy_back, dbias = pull(dy)
    assert found.dtype == jnp.bfloat16 and dbias.dtype == jnp.float32
    np.testing.assert_allclose(np.asarray(found, np.float64), y64 + bias64, rtol=0.01, atol=0.01)
    np.testing.assert_array_equal(dy_back, dy)
    # Bfloat16 sums of thousands of values about 0.5 would be off by whole percents.
    np.testing.assert_allclose(dbias, dy64.reshape(-1, 5).sum(axis=0), rtol=1e-5)


def test_the_gradient_of_a_gate_is_summed_over_time_in_float32():
    (y, dy, gate), (y64, dy64, gate64) = example([(3, 2000, 5), (3, 2000, 5), (3, 5)], jnp.bfloat16)
    found, pull = jax.vjp(scale_channels, y, gate)
    dy_back, dgate = pull(dy)
    np.testing.assert_allclose(
        np.asarray(found, np.float64), y64 * gate64[:, None], rtol=0.005, atol=1e-6
    )
    np.testing.assert_allclose(
        np.asarray(dy_back, np.float64), dy64 * gate64[:, None], rtol=0.005, atol=1e-6
    )
    # Rounded once, to bfloat16's eight bits, at the end.
    np.testing.assert_allclose(
        np.asarray(dgate, np.float64), (dy64 * y64).sum(axis=1), rtol=0.005, atol=1e-6
    )
