"""A block's parameters as matrices that one product applies to several samples at once.

The batch lies in lanes, so that a sample of all views is a matrix `[channels, 128]`, which the
matrix unit takes as its weights: pushing it costs as much as 128 rows streamed through it. Narrow
samples are pushed together, and meet a matrix that is block-diagonal over time; the convolution
over time meets a Toeplitz matrix. All are linear in the parameters: gradients of parameters come
from gradients of matrices by transposition.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from clef_jax.ops.residual_block.geometry import LANES, UNIT, Geometry


class Parameters(NamedTuple):
    """What a block learns: kernel `[K, C_in / groups, C_out]` and bias of its convolutions.

    `fc1` and `fc2`, the layers of squeeze-excite, have kernels `[C_in, C_out]`.
    """

    conv1: jax.Array
    bias1: jax.Array
    conv2: jax.Array
    bias2: jax.Array
    conv3: jax.Array
    bias3: jax.Array
    fc1: jax.Array
    fc1_bias: jax.Array
    fc2: jax.Array
    fc2_bias: jax.Array


class Weights(NamedTuple):
    """Parameters arranged; biases `[channels, 128]`, those of the middle `[packs, wide, 128]`.

    Rows and columns in the middle are ordered by pack, sample and channel, elsewhere by sample and
    channel. `expand` is the transpose of the last convolution.
    """

    reduce: jax.Array
    reduce_bias: jax.Array
    taps: jax.Array
    taps_bias: jax.Array
    expand: jax.Array
    expand_bias: jax.Array
    squeeze: jax.Array
    squeeze_bias: jax.Array
    excite: jax.Array
    excite_bias: jax.Array


class Maps(NamedTuple):
    """What the backward pass multiplies by besides `Weights`, in the type of the input.

    Attributes:
        expand: The last convolution, from `out_of_middle`.
        reduce_transposed: The first, transposed, from `out_of_middle`.
        taps_transposed: From `toeplitz_transposed`.
    """

    expand: jax.Array
    reduce_transposed: jax.Array
    taps_transposed: jax.Array


def arrange(p: Parameters, shape: Geometry) -> Weights:
    """Returns the matrices whose gradients the backward kernel sums, float32."""

    def lanes(bias: jax.Array) -> jax.Array:
        return jnp.broadcast_to(bias.astype(jnp.float32)[:, None], (len(bias), LANES))

    def middle(bias: jax.Array) -> jax.Array:
        return lanes(bias).reshape(shape.packs, shape.wide, LANES)

    return Weights(
        into_middle(p.conv1[0], shape),
        middle(p.bias1),
        toeplitz(p.conv2, shape),
        middle(p.bias2),
        into_middle(p.conv3[0].T, shape),
        lanes(p.bias3),
        p.fc1.T,
        lanes(p.fc1_bias),
        p.fc2.T,
        lanes(p.fc2_bias),
    )


def arrange_maps(p: Parameters, shape: Geometry, dtype: DTypeLike) -> Maps:
    """Returns the other matrices of the backward pass."""
    conv1, conv2, conv3 = (kernel.astype(dtype) for kernel in (p.conv1, p.conv2, p.conv3))
    return Maps(
        out_of_middle(conv3[0], shape),
        out_of_middle(conv1[0].T, shape),
        toeplitz_transposed(conv2, shape),
    )


def into_middle(matrix: jax.Array, shape: Geometry) -> jax.Array:
    """Arranges a map `[channels, middle]` as `[p middle, p channels]` for p samples at once."""
    channels = len(matrix)
    p = shape.together(channels)
    split = matrix.T.reshape(shape.packs, 1, shape.wide, 1, channels)
    same = _identity(p, matrix.dtype).reshape(1, p, 1, p, 1)
    return (split * same).reshape(p * shape.middle, p * channels)


def out_of_middle(matrix: jax.Array, shape: Geometry) -> jax.Array:
    """Arranges a map `[middle, channels]` as `[p channels, p middle]` for p samples at once."""
    channels = matrix.shape[1]
    p = shape.together(shape.middle)
    split = matrix.T.reshape(1, channels, shape.packs, 1, shape.wide)
    same = _identity(p, matrix.dtype).reshape(p, 1, 1, p, 1)
    return (split * same).reshape(p * channels, p * shape.middle)


def toeplitz(kernel: jax.Array, shape: Geometry) -> jax.Array:
    """Arranges the convolution over time: `[packs, UNIT outputs, window of samples]`."""
    packed = _pack(kernel, shape).transpose(2, 3, 0, 1)
    steps = [(t * shape.stride, (UNIT - 1 - t) * shape.stride) for t in range(UNIT)]
    return _stack([_pad_time(packed, *step) for step in steps])


def toeplitz_transposed(kernel: jax.Array, shape: Geometry) -> jax.Array:
    """Arranges its transpose: `[packs, UNIT * stride samples, outputs that they reach]`."""
    packed = _pack(kernel, shape).transpose(2, 1, 0, 3)
    rows = []
    for sample in range(UNIT * shape.stride):
        # The tap that takes each output from this sample, falling from output to output.
        taps = [sample + shape.before - o * shape.stride for o in shape.reached]
        known = [tap for tap in taps if 0 <= tap < shape.taps]
        row = jnp.flip(packed[:, :, known[-1] : known[0] + 1 : shape.stride], axis=2)
        first = taps.index(known[0])
        rows.append(_pad_time(row, first, len(taps) - first - len(known)))
    return _stack(rows)


def _pack(kernel: jax.Array, shape: Geometry) -> jax.Array:
    """Returns `[K, wide in, packs, wide out]`: narrow groups block-diagonally side by side."""
    taps, inner, _ = kernel.shape
    groups = shape.wide // inner
    split = kernel.reshape(taps, 1, inner, shape.packs, groups, -1)
    same = _identity(groups, kernel.dtype).reshape(1, groups, 1, 1, groups, 1)
    return (split * same).reshape(taps, shape.wide, shape.packs, shape.wide)


def _pad_time(row: jax.Array, before: int, after: int) -> jax.Array:
    return jnp.pad(row, ((0, 0), (0, 0), (before, after), (0, 0)))


def _stack(rows: list[jax.Array]) -> jax.Array:
    """Returns `[packs, rows wide, time wide]` for rows `[packs, wide, time, wide]`."""
    matrix = jnp.stack(rows, axis=1)
    packs, count, wide, time, _ = matrix.shape
    return matrix.reshape(packs, count * wide, time * wide)


def _identity(size: int, dtype: DTypeLike) -> jax.Array:
    return jnp.eye(size, dtype=dtype)
