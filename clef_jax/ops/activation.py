"""The encoder's activation, with a backward pass that keeps less."""

import jax
import jax.numpy as jnp


@jax.custom_vjp
def swish(x: jax.Array) -> jax.Array:
    """Returns `x * sigmoid(x)`; of the forward pass, the gradient needs `x` alone."""
    return x / (1 + jnp.exp(-x))


def _forward(x):
    return swish(x), x


def _backward(x, dy):
    # The sigmoid again, and of -x: written alike, XLA would merge it with the forward pass's and
    # carry it through the whole step, which doubles the memory of the activations.
    t = 1 / (1 + jnp.exp(x))
    return (dy * ((1 - t) * (1 + x * t)),)


swish.defvjp(_forward, _backward)


def swish_by_tanh(x: jax.Array) -> jax.Array:
    """Returns `swish(x)` inside a kernel: TPUs have an instruction for tanh, and none to divide."""
    half = 0.5 * x
    return half * jnp.tanh(half) + half


def swish_and_slope_by_tanh(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns `swish_by_tanh(x)` and its derivative."""
    sigmoid = 0.5 * jnp.tanh(0.5 * x) + 0.5
    s = x * sigmoid
    return s, sigmoid + s * (1 - sigmoid)
