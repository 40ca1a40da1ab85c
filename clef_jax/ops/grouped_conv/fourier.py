"""A short convolution between groups of channels by fewer multiplications, and its gradients.

Time is cut into blocks of P outputs. A block's window of samples and the kernel's R taps go through
a discrete Fourier transform, where the convolution is a product at each frequency, and the products
come back through the inverse. Complex products are made of three real ones, after Gauss, so that
all of it is one bilinear form with real matrices A, B and C (a minimal filtering algorithm in the
sense of Winograd, with points on the unit circle, where it is well conditioned):

    y = C [(A x) * (B w)]

Each of its J ~ 1.5 (P + R) products is a matrix product `[rows, p] x [p, q]` of one group, and the
transforms are dense matrix products with small constants. A direct convolution multiplies R p times
for an output, this one J (p + P + R) / P + J times: for 48 channels about a third. Gradients are
the same form turned around, so that spectra serve more than one pass.

Shapes as in `folding`: x `[N, B + R - 1, g, p]`, w `[R, p, g, q]`, y `[N, B, g, q]`. Spectra are
float32 or wider, whatever the type of the arrays.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike


class Transforms(NamedTuple):
    """The matrices of `y = C [(A x) * (B w)]` for P outputs of R taps, from windows of L samples.

    Attributes:
        samples: A `[J, L]`.
        taps: B `[J, R]`.
        outputs: C `[P, J]`.
    """

    samples: np.ndarray
    taps: np.ndarray
    outputs: np.ndarray


@functools.cache
def transforms(taps: int, outputs: int) -> Transforms:
    """Returns the transforms of a correlation with `taps` taps that makes `outputs` outputs.

    There are more outputs if that many are fewer than taps, so that a window ends in the block that
    follows its own. It is one sample longer than it must be, or two, so that its length is even.
    """
    outputs = max(outputs, taps + 1)
    length = taps + outputs + (taps + outputs) % 2
    angle = 2 * np.pi * np.outer(np.arange(length // 2 + 1), np.arange(length)) / length
    a, b, c = [], [], []
    for frequency, (cos, sin) in enumerate(zip(np.cos(angle), -np.sin(angle), strict=True)):
        if frequency in (0, length // 2):
            a += [cos]
            b += [cos]
            c += [cos / length]
            continue
        # X conj(W) = (k1 - k3) + i (k1 - k2) with k1 = (Xr + Xi) Wr, k2 = Xr (Wr + Wi) and
        # k3 = Xi (Wr - Wi). Half the frequencies are these ones' conjugates, hence the factor 2.
        a += [cos + sin, cos, sin]
        b += [cos, cos + sin, cos - sin]
        c += [2 * (cos + sin) / length, -2 * sin / length, -2 * cos / length]
    return Transforms(np.array(a), np.array(b)[:, :taps], np.array(c)[:, :outputs].T)


def convolve(x: jax.Array, w: jax.Array, block: int) -> jax.Array:
    """Returns `y[n, b] = sum over r of x[n, b + r] w[r]`, P = `block` outputs at a time."""
    plan = transforms(len(w), block)
    spectrum = jnp.matmul(_of_samples(plan, x), _of_kernel(plan, w))
    y = _from_blocks(_transform(plan.outputs, spectrum), len(x))
    return y[:, : x.shape[1] - len(w) + 1].astype(x.dtype)


def convolve_transposed(dy: jax.Array, w: jax.Array, block: int) -> jax.Array:
    """Returns the cotangent of `convolve`'s `x`, given that of its result."""
    batch = len(dy)
    plan = transforms(len(w), block)
    block = len(plan.outputs)
    spectrum = jnp.matmul(_of_outputs(plan, dy), _of_kernel(plan, w).swapaxes(2, 3))
    windows = _transform(plan.samples.T, spectrum)
    # What a window holds of the next block, that block's own window holds too.
    own, next_one = windows[:block], windows[block:]
    own = jnp.pad(own, ((0, 0), (0, 0), (0, batch), (0, 0)))
    next_one = jnp.pad(next_one, ((0, block - len(next_one)), (0, 0), (batch, 0), (0, 0)))
    dx = _from_blocks(own + next_one, batch)
    return dx[:, : dy.shape[1] + len(w) - 1].astype(dy.dtype)


def correlate(x: jax.Array, dy: jax.Array, reach: int, dtype: DTypeLike, block: int) -> jax.Array:
    """Returns the cotangent of `convolve`'s `w` in `dtype`, given that of its result."""
    plan = transforms(reach, block)
    spectra = _of_samples(plan, x), _of_outputs(plan, dy)
    spectrum = lax.dot_general(*spectra, (((2,), (2,)), ((0, 1), (0, 1))))
    return _transform(plan.taps.T, spectrum).swapaxes(1, 2).astype(dtype)


def _transform(matrix: np.ndarray, x: jax.Array) -> jax.Array:
    """Returns `matrix [J, L]` times `x [L, ...]`."""
    x = x.astype(np.promote_types(x.dtype, jnp.float32))
    y = jnp.asarray(matrix, x.dtype) @ x.reshape(len(x), -1)
    return y.reshape(-1, *x.shape[1:])


def _of_samples(plan: Transforms, x: jax.Array) -> jax.Array:
    """Returns the spectra `[J, g, rows, p]` of the windows of all blocks of outputs."""
    batch, samples = x.shape[:2]
    taps, outputs, length = len(plan.taps.T), len(plan.outputs), len(plan.samples.T)
    count = -(-(samples - taps + 1) // outputs)
    blocks = _to_blocks(x, outputs, count + 1)
    windows = [blocks[:, :, :-batch], blocks[: length - outputs, :, batch:]]
    return _transform(plan.samples, jnp.concatenate(windows))


def _of_kernel(plan: Transforms, w: jax.Array) -> jax.Array:
    """Returns the spectrum `[J, g, p, q]` of a kernel `[R, p, g, q]`."""
    return _transform(plan.taps, w.swapaxes(1, 2))


def _of_outputs(plan: Transforms, dy: jax.Array) -> jax.Array:
    """Returns the spectra `[J, g, rows, q]` of a cotangent `[N, B, g, q]` of outputs."""
    outputs = len(plan.outputs)
    return _transform(plan.outputs.T, _to_blocks(dy, outputs, -(-dy.shape[1] // outputs)))


def _to_blocks(x: jax.Array, block: int, count: int) -> jax.Array:
    """Returns `x [N, T, g, p]`, zeros after it, as `count` blocks `[block, g, count * N, p]`."""
    batch, samples, groups, width = x.shape
    x = jnp.pad(x, ((0, 0), (0, count * block - samples), (0, 0), (0, 0)))
    x = x.reshape(batch, count, block, groups, width).transpose(2, 3, 1, 0, 4)
    return x.reshape(block, groups, count * batch, width)


def _from_blocks(x: jax.Array, batch: int) -> jax.Array:
    """Returns `[N, T, g, p]` of `_to_blocks`'s result."""
    block, groups, rows, width = x.shape
    x = x.reshape(block, groups, rows // batch, batch, width).transpose(3, 2, 0, 1, 4)
    return x.reshape(batch, -1, groups, width)
