"""Convolution with one tap, or an affine map: a matrix product of every row's channels."""

import jax
import numpy as np
from jax import lax

from clef_jax.ops.varying import varying_alike


def pointwise(x: jax.Array, matrix: jax.Array) -> jax.Array:
    """Returns `x [..., C_in]` times `matrix [C_in, C_out]`, computed in the type of `x`.

    The gradient for `matrix` is summed and returned in the matrix's own type, which may be wider;
    the automatic one would be rounded to the type of `x` on its way.
    """
    return _pointwise(*varying_alike(x, matrix))


@jax.custom_vjp
def _pointwise(x: jax.Array, matrix: jax.Array) -> jax.Array:
    return x @ matrix.astype(x.dtype)


def _forward(x, matrix):
    return _pointwise(x, matrix), (x, matrix)


def _backward(saved, dy):
    x, matrix = saved
    # All contracted as they lie. Spelling a transpose out would copy the matrix, and summing over
    # two axes instead of one the activations, at every layer.
    dx = lax.dot_general(dy, matrix.astype(x.dtype), (((dy.ndim - 1,), (1,)), ((), ())))
    x_rows, dy_rows = (a.reshape(-1, a.shape[-1]) for a in (x, dy))
    wide = np.promote_types(matrix.dtype, x.dtype)
    dmatrix = lax.dot_general(
        x_rows, dy_rows, (((0,), (0,)), ((), ())), preferred_element_type=wide
    )
    return dx, dmatrix


_pointwise.defvjp(_forward, _backward)
