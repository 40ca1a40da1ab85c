"""Maximum and mean over time, each returned beside what it is taken of.

Whoever goes on with both gets the sum of both gradients in one pass, which reads what it needs and
writes no gradient of the pooled values at full length.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


@jax.custom_vjp
def beside_max_of_pairs(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns `x [N, T, C]` and the maxima of neighbours in time `[N, ceil(T / 2), C]`.

    An odd end is paired with zero, as in the original. At a tie the gradient is the first's.
    """
    return x, _pairs(x).max(axis=2)


def _pairs(x):
    x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, 0)))
    return x.reshape(x.shape[0], -1, 2, x.shape[2])


def _max_forward(x):
    return beside_max_of_pairs(x), x


def _max_backward(x, gradients):
    dx, dmax = gradients
    # In pairs for the CPU, which goes through time by itself; unsplit for compilers that write to
    # memory what they have to reshape.
    add = {"cpu": _add_by_pairs, "default": _add_by_neighbours}
    return (lax.platform_dependent(x, dx, dmax, **add),)


def _add_by_pairs(x, dx, dmax):
    pairs = _pairs(x)
    first_wins = (pairs[:, :, 0] >= pairs[:, :, 1])[:, :, None, :]
    is_first = (jnp.arange(2) == 0)[None, None, :, None]
    to_winners = jnp.where(is_first == first_wins, dmax[:, :, None, :], 0)
    return dx + to_winners.reshape(len(x), -1, x.shape[2])[:, : x.shape[1]]


def _add_by_neighbours(x, dx, dmax):
    samples = x.shape[1]
    is_first = (jnp.arange(samples) % 2 == 0)[None, :, None]
    around = jnp.pad(x, ((0, 0), (1, 1), (0, 0)))
    before, after = around[:, :-2], around[:, 2:]
    wins = jnp.where(is_first, x >= after, ~(before >= x))
    return jnp.where(wins, dx + jnp.repeat(dmax, 2, axis=1)[:, :samples], dx)


beside_max_of_pairs.defvjp(_max_forward, _max_backward)


@jax.custom_vjp
def beside_mean(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns `x [N, T, C]` and its mean over time `[N, C]`, in float32 or wider as `x` is."""
    return x, x.mean(axis=1, dtype=np.promote_types(x.dtype, jnp.float32))


def _mean_forward(x):
    return beside_mean(x), None


def _mean_backward(_, gradients):
    dx, dmean = gradients
    share = (dmean / dx.shape[1])[:, None]
    return ((dx.astype(dmean.dtype) + share).astype(dx.dtype),)


beside_mean.defvjp(_mean_forward, _mean_backward)
