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
import numpy as np

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


def arrange(p: Parameters, shape: Geometry) -> Weights:
    """Returns the matrices whose gradients the backward kernel sums, float32."""

    def lanes(bias: jax.Array) -> jax.Array:
        return jnp.broadcast_to(bias.astype(jnp.float32)[:, None], (len(bias), LANES))

    def middle(bias: jax.Array) -> jax.Array:
        return lanes(bias).reshape(shape.packs, shape.wide, LANES)

    return Weights(
        into_middle(p.conv1[0], shape),
        middle(p.bias1),
        _toeplitz(p.conv2, _forward_taps(shape), shape),
        middle(p.bias2),
        into_middle(p.conv3[0].T, shape),
        lanes(p.bias3),
        p.fc1.T,
        lanes(p.fc1_bias),
        p.fc2.T,
        lanes(p.fc2_bias),
    )


def into_middle(matrix: jax.Array, shape: Geometry) -> jax.Array:
    """Arranges a map `[channels, middle]` as `[p middle, p channels]` for p samples at once."""
    channels = len(matrix)
    p = shape.together(channels)
    split = matrix.reshape(channels, shape.packs, shape.wide)
    return _einsum("cgm,tu->gtmuc", split, np.eye(p)).reshape(-1, p * channels)


def out_of_middle(matrix: jax.Array, shape: Geometry) -> jax.Array:
    """Arranges a map `[middle, channels]` as `[p channels, p middle]` for p samples at once."""
    p = shape.together(shape.middle)
    split = matrix.reshape(shape.packs, shape.wide, -1)
    return _einsum("gmc,tu->tcgum", split, np.eye(p)).reshape(-1, p * shape.middle)


def transposed_taps(kernel: jax.Array, shape: Geometry) -> jax.Array:
    """Arranges the convolution's transpose: `[packs, unit of samples, outputs they reach]`."""
    sample = np.arange(UNIT * shape.stride)[None, :, None]
    output = np.arange(shape.earlier + UNIT + shape.later)[None, None] - shape.earlier
    tap = np.arange(shape.taps)[:, None, None]
    meets = sample + shape.before - tap == output * shape.stride
    return _toeplitz(kernel, meets, shape, "gtiuo")


def _forward_taps(shape: Geometry) -> np.ndarray:
    """Returns `[K, UNIT, window]`: whether a tap takes an output from a sample of the window."""
    tap = np.arange(shape.taps)[:, None, None]
    output, sample = np.arange(UNIT)[None, :, None], np.arange(shape.window)[None, None]
    return sample == output * shape.stride + tap


def _toeplitz(
    kernel: jax.Array, meets: np.ndarray, shape: Geometry, order: str = "gtoui"
) -> jax.Array:
    """Returns `[packs, t wide, u wide]`: the tap where `meets [K, t, u]`, and zero elsewhere."""
    taps, inner, _ = kernel.shape
    narrow = shape.wide // inner
    split = kernel.reshape(taps, inner, shape.packs, narrow, -1)
    packed = _einsum("kigpo,pq->kqigpo", split, np.eye(narrow))
    packed = packed.reshape(taps, shape.wide, shape.packs, shape.wide)
    matrix = _einsum(f"kigo,ktu->{order}", packed, meets)
    return matrix.reshape(shape.packs, meets.shape[1] * shape.wide, -1)


def _einsum(subscripts: str, matrix: jax.Array, selection: np.ndarray) -> jax.Array:
    # Exact, and so must be its transpose, which sums.
    selection = jnp.asarray(selection, matrix.dtype)
    return jnp.einsum(subscripts, matrix, selection, precision="highest")
