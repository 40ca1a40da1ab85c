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
from jax import lax
from jax.typing import DTypeLike

from clef_jax.ops.grouped_conv.kernels.layout import rows_of_kernel
from clef_jax.ops.grouped_conv.packing import pack_kernel
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
    return _for_each_sample(matrix.T, shape.packs, shape.together(len(matrix)))


def out_of_middle(matrix: jax.Array, shape: Geometry) -> jax.Array:
    """Arranges a map `[middle, channels]` as `[p channels, p middle]` for p samples at once."""
    return _for_each_sample(matrix, shape.packs, shape.together(shape.middle)).T


def _for_each_sample(matrix: jax.Array, packs: int, p: int) -> jax.Array:
    """Returns `matrix [middle, channels]` as `[p middle, p channels]`, zero between samples.

    Samples are to it what groups are to a packed kernel, and packs what taps are.
    """
    by_pack = matrix.reshape(packs, -1, matrix.shape[1])
    return pack_kernel(jnp.tile(by_pack, (1, 1, p)), p, 1).reshape(p * len(matrix), -1)


def toeplitz(kernel: jax.Array, shape: Geometry) -> jax.Array:
    """Arranges the convolution over time: `[packs, UNIT outputs, window of samples]`."""
    starts = [t * shape.stride for t in range(UNIT)]
    return _over_time(kernel, starts, shape.window, shape)


def toeplitz_transposed(kernel: jax.Array, shape: Geometry) -> jax.Array:
    """Arranges its transpose: `[packs, UNIT * stride samples, outputs that they reach]`."""
    starts = [output * shape.stride - shape.before for output in shape.reached]
    return _over_time(kernel, starts, UNIT * shape.stride, shape).swapaxes(1, 2)


def _over_time(kernel: jax.Array, starts: list[int], samples: int, shape: Geometry) -> jax.Array:
    """Returns `[packs, outputs wide, samples wide]`: outputs whose first taps meet `starts`."""
    row = rows_of_kernel(kernel, shape.groups)
    return jnp.concatenate([_shift(row, start, samples, shape) for start in starts], axis=1)


def _shift(row: jax.Array, start: int, samples: int, shape: Geometry) -> jax.Array:
    """Returns taps `[packs, wide, K wide]` as `[packs, wide, samples wide]`, from `start` on.

    Taps that would meet samples before the first or after the last are cut off.
    """
    after = samples - shape.taps - start
    time = (start * shape.wide, after * shape.wide, 0)
    return lax.pad(row, jnp.zeros((), row.dtype), ((0, 0, 0), (0, 0, 0), time))
