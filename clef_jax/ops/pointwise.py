"""Convolution with one tap: a matrix product of every sample's channels."""

import jax
import jax.numpy as jnp
from jax import lax


@jax.custom_vjp
def pointwise(x: jax.Array, matrix: jax.Array) -> jax.Array:
    """Returns `x [N, T, C_in]` times `matrix [C_in, C_out]`, computed in the type of `x`.

    The gradient for `matrix` is summed and returned in the matrix's own type, which may be wider;
    the automatic one would be rounded to the type of `x` on its way.
    """
    return x @ matrix.astype(x.dtype)


def _forward(x, matrix):
    return pointwise(x, matrix), (x, matrix)


def _backward(saved, dy):
    x, matrix = saved
    # All contracted as they lie. Spelling a transpose out would copy the matrix, and summing over
    # two axes instead of one the activations, at every layer.
    dx = lax.dot_general(dy, matrix.astype(x.dtype), (((2,), (1,)), ((), ())))
    rows = [a.reshape(-1, a.shape[2]) for a in (x, dy)]
    wide = jnp.promote_types(matrix.dtype, x.dtype)
    dmatrix = lax.dot_general(*rows, (((0,), (0,)), ((), ())), preferred_element_type=wide)
    return dx, dmatrix


pointwise.defvjp(_forward, _backward)
