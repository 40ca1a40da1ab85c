"""How arrays lie in the kernels: batch in lanes, a tile of channels in sublanes, time outermost.

So XLA itself keeps activations on TPU wherever the batch fills the lanes, and `lanes_last` costs
nothing there. Groups of fewer channels than a tile share one, their kernels in its block diagonal.
"""

import math

import jax
from jax import lax

from clef_jax.ops.grouped_conv.packing import pack_kernel

# A packed register's rows of bfloat16, and the lanes of a register.
SUBLANES, LANES = 16, 128


def lanes_last(x: jax.Array) -> jax.Array:
    """Returns `[N, T, C]` as `[T, C, N]`; `lanes_first` is its inverse."""
    return x.transpose(1, 2, 0)


def lanes_first(x: jax.Array) -> jax.Array:
    """Returns `[T, C, N]` as `[N, T, C]`."""
    return x.transpose(2, 0, 1)


def groups_of_a_tile(channels: int) -> int:
    """Returns how many groups of `channels` make a tile."""
    return SUBLANES // math.gcd(channels, SUBLANES)


def tiles_of_kernel(kernel: jax.Array, groups: int) -> jax.Array:
    """Returns `kernel [K, C_in / g, C_out]` as dense kernels of tiles, `[tiles, K, p, q]`."""
    tiles = groups // groups_of_a_tile(kernel.shape[1])
    w = pack_kernel(kernel, groups, tiles)
    return w.reshape(*w.shape[:2], tiles, -1).transpose(2, 0, 1, 3)


def rows_of_kernel(kernel: jax.Array, groups: int) -> jax.Array:
    """Returns the same kernels with an output's taps in a row, `[tiles, q, K * p]`."""
    tiles = groups // groups_of_a_tile(kernel.shape[1])
    w = pack_kernel(kernel, groups, tiles)
    # One matrix, transposed. Of the groups' matrices by themselves, which XLA would make of it
    # without the barrier, the copy is five times as much code, and for wide groups takes more of a
    # core's memory than XLA's operations are given (`hardware.compiling`).
    matrix = lax.optimization_barrier(w.reshape(-1, w.shape[2]))
    return matrix.T.reshape(tiles, -1, len(matrix))
