"""The z-score that encoders' inputs need, on the device."""

import jax
import jax.numpy as jnp

_SD_EPSILON = 1e-8


def zscore(x: jax.Array) -> jax.Array:
    """Returns `x [..., T]` with mean 0 and standard deviation 1 over time."""
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    return centred / (jnp.std(x, axis=-1, keepdims=True) + _SD_EPSILON)
