"""The three passes of a grouped convolution, in each of the forms they can be computed in.

`native` is XLA's own operation and its own derivatives, `pack` the same between fewer, wider groups
(see `packing`), `kernel` our own kernels, on the platforms and for the shapes that have them (see
`kernels`). `conv` and `matmul` fold time into channels first (see `folding`), then use a stride-1
grouped convolution or one matrix product per group. `fourier` makes fewer multiplications of the
stride-1 convolution (see `fourier`). Sums run in float32 or wider, whatever the type of the arrays.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from clef_jax.ops.grouped_conv import fourier, kernels, native, packing
from clef_jax.ops.grouped_conv.folding import (
    Geometry,
    fold_input,
    fold_kernel,
    fold_output,
    unfold_input,
    unfold_kernel,
    unfold_output,
)

# Forms that have no blocks, each a module with functions for the three passes.
_WHOLE = {"native": native, "pack": packing, "kernel": kernels}
FORMS = (*_WHOLE, "conv", "matmul", "fourier")
_DIMENSIONS = ("NWC", "WIO", "NWC")


@dataclasses.dataclass(frozen=True)
class Algorithm:
    """How to compute one pass: a form of `FORMS`, and the outputs of a block of time.

    `conv` and `matmul` fold a block's samples into channels, `fourier` transforms a block's window.
    """

    form: str
    block: int = 1

    def __str__(self) -> str:
        return self.form if self.form in _WHOLE else f"{self.form}:{self.block}"

    @classmethod
    def parse(cls, text: str) -> "Algorithm":
        """Returns the algorithm that `str` wrote as `text`, such as `conv:2`.

        Raises:
            ValueError: The form is unknown or the block is not a positive integer.
        """
        form, _, block = text.partition(":")
        if form not in FORMS or (form in _WHOLE) == bool(block):
            raise ValueError(
                f"{text!r} is not an algorithm; write {', '.join(_WHOLE)}, conv:2, matmul:16 or "
                "fourier:24"
            )
        if block and not (block.isdecimal() and int(block) > 0):
            raise ValueError(f"{text!r}: outputs per block must be a positive integer")
        return cls(form, int(block or 1))

    def geometry(self, samples: int, taps: int, stride: int, groups: int) -> Geometry:
        """Returns how this algorithm folds time, which for `fourier` is away with the stride."""
        block = 1 if self.form == "fourier" else self.block
        return Geometry(samples, taps, stride, groups, block)


class Passes(NamedTuple):
    """The algorithms of a layer's three passes."""

    forward: Algorithm
    input_gradient: Algorithm
    kernel_gradient: Algorithm

    @classmethod
    def parse(cls, *texts: str) -> "Passes":
        """Returns the algorithms that `texts` name, of each pass or, of one text, of all.

        Raises:
            ValueError: One is no algorithm, or there are not as many as passes.
        """
        texts = texts * 3 if len(texts) == 1 else texts
        if len(texts) != 3:
            raise ValueError(f"{len(texts)} algorithms for three passes: {list(texts)}")
        return cls(*map(Algorithm.parse, texts))


def forward(
    x: jax.Array, kernel: jax.Array, stride: int, groups: int, algorithm: Algorithm
) -> jax.Array:
    """Returns the SAME convolution `[N, ceil(T / stride), C_out]` in the type of `x`.

    Args:
        x: Input `[N, T, C_in]`.
        kernel: Taps `[K, C_in / groups, C_out]`, of the type of `x`.
        stride: Step between outputs, in samples.
        groups: Number of channel groups.
        algorithm: How to compute it.
    """
    if whole := _WHOLE.get(algorithm.form):
        return whole.forward(x, kernel, stride, groups)
    geometry = algorithm.geometry(x.shape[1], len(kernel), stride, groups)
    y = _short(algorithm).convolve(fold_input(x, geometry), fold_kernel(kernel, geometry))
    return unfold_output(y, geometry)


def input_gradient(
    x: jax.Array,
    kernel: jax.Array,
    dy: jax.Array,
    stride: int,
    groups: int,
    algorithm: Algorithm,
) -> jax.Array:
    """Returns the gradient for `x`, of its shape and type, given `dy` for `forward`'s result.

    Arguments are `forward`'s; of `x` no value is used.
    """
    if whole := _WHOLE.get(algorithm.form):
        return whole.input_gradient(x, kernel, dy, stride, groups)
    geometry = algorithm.geometry(x.shape[1], len(kernel), stride, groups)
    dy, w = fold_output(dy, geometry), fold_kernel(kernel, geometry)
    return unfold_input(_short(algorithm).transpose(dy, w), geometry)


def kernel_gradient(
    x: jax.Array,
    kernel: jax.Array,
    dy: jax.Array,
    stride: int,
    groups: int,
    algorithm: Algorithm,
) -> jax.Array:
    """Returns the gradient for `kernel`, of its shape and type, given `dy` for `forward`'s result.

    Arguments are `forward`'s, but `kernel` may be of a wider type than `x`; no value of it is used.
    """
    if whole := _WHOLE.get(algorithm.form):
        return whole.kernel_gradient(x, kernel, dy, stride, groups)
    geometry = algorithm.geometry(x.shape[1], len(kernel), stride, groups)
    x, dy = fold_input(x, geometry), fold_output(dy, geometry)
    w = _short(algorithm).correlate(x, dy, reach=geometry.reach, dtype=kernel.dtype)
    return unfold_kernel(w, geometry)


class _Short(NamedTuple):
    """The stride-1 convolution of folded arrays in one form, and its gradients.

    Attributes:
        convolve: (x `[N, B + R - 1, g, p]`, w `[R, p, g, q]`) -> y `[N, B, g, q]`.
        transpose: (cotangent of y, w) -> cotangent of x.
        correlate: (x, cotangent of y, reach=R, dtype=...) -> cotangent of w in that type.
    """

    convolve: Callable[..., jax.Array]
    transpose: Callable[..., jax.Array]
    correlate: Callable[..., jax.Array]


def _short(algorithm: Algorithm) -> _Short:
    if algorithm.form == "fourier":
        passes = fourier.convolve, fourier.convolve_transposed, fourier.correlate
        return _Short(*(functools.partial(f, block=algorithm.block) for f in passes))
    convolve, correlate = {
        "conv": (_short_conv, _correlate_by_conv),
        "matmul": (_short_matmul, _correlate_by_matmul),
    }[algorithm.form]
    return _Short(convolve, functools.partial(_convolve_flipped, convolve), correlate)


def _convolve_flipped(convolve: Callable[..., jax.Array], dy: jax.Array, w: jax.Array) -> jax.Array:
    """Returns the cotangent of the convolution's input, which is a convolution itself."""
    beyond = len(w) - 1
    dy = jnp.pad(dy, ((0, 0), (beyond, beyond), (0, 0), (0, 0)))
    return convolve(dy, w[::-1].swapaxes(1, 3))


def _short_conv(x: jax.Array, w: jax.Array) -> jax.Array:
    batch, blocks, groups, _ = x.shape
    reach, width = w.shape[0], w.shape[-1]
    y = lax.conv_general_dilated(
        x.reshape(batch, blocks, -1),
        w.reshape(reach, w.shape[1], -1),
        window_strides=(1,),
        padding="VALID",
        dimension_numbers=_DIMENSIONS,
        feature_group_count=groups,
    )
    return y.reshape(batch, blocks - reach + 1, groups, width)


def _short_matmul(x: jax.Array, w: jax.Array) -> jax.Array:
    batch, blocks, groups, _ = x.shape
    reach, inner, _, width = w.shape
    if groups == 1:
        # Spelt without the group axis: with it, XLA would choose transposed products.
        y = _windows(x, reach).reshape(batch, -1, reach * inner) @ w.reshape(-1, width)
        return y[:, :, None, :]
    return jnp.einsum("nbrgp,rpgq->nbgq", _windows(x, reach), w)


def _windows(x: jax.Array, reach: int) -> jax.Array:
    """Returns `[N, B, reach, g, p]`: each block of `[N, B + reach - 1, g, p]` and the next."""
    blocks = x.shape[1] - reach + 1
    return jnp.stack([x[:, r : r + blocks] for r in range(reach)], axis=2)


def _correlate_by_conv(x: jax.Array, dy: jax.Array, reach: int, dtype: DTypeLike) -> jax.Array:
    """Returns `w[r] = sum over n, b of x[n, b + r]^T dy[n, b]`, `[reach, p, g, q]`.

    Folded channels take the batch's place, the batch the channels', and `dy` is the kernel: a
    forward convolution, where XLA's own form of this gradient is up to 90 times slower on CPU.
    """
    batch, blocks, groups, inner = x.shape
    _, length, _, width = dy.shape
    w = lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0).reshape(inner, blocks, groups * batch),
        dy.swapaxes(0, 1).reshape(length, batch, groups * width),
        window_strides=(1,),
        padding="VALID",
        dimension_numbers=_DIMENSIONS,
        feature_group_count=groups,
        preferred_element_type=dtype,
    )
    return w.swapaxes(0, 1).reshape(reach, inner, groups, width)


def _correlate_by_matmul(x: jax.Array, dy: jax.Array, reach: int, dtype: DTypeLike) -> jax.Array:
    """Returns what `_correlate_by_conv` does, as one matrix product per group."""
    groups, inner = x.shape[2:]
    if groups == 1:
        rows = _windows(x, reach).reshape(-1, reach * inner)
        w = jnp.dot(rows.T, dy.reshape(len(rows), -1), preferred_element_type=dtype)
        return w.reshape(reach, inner, 1, -1)
    return jnp.einsum("nbrgp,nbgq->rpgq", _windows(x, reach), dy, preferred_element_type=dtype)
