"""The convolution and its input gradient, alone or with swish before and bias after, for TPU."""

import functools

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from clef_jax.ops import vmem
from clef_jax.ops.grouped_conv.kernels.blocks import (
    Blocks,
    cheapest,
    forward_blocks,
    input_gradient_blocks,
)
from clef_jax.ops.grouped_conv.kernels.layout import (
    LANES,
    groups_of_a_tile,
    lanes_first,
    lanes_last,
    rows_of_kernel,
    tiles_of_kernel,
)
from clef_jax.ops.grouped_conv.kernels.product import HALO, toeplitz_product

# Channels of a group: the most that were compiled, and seen to win. Products are unrolled, so that
# 256 compile for minutes.
_WIDEST = 48


def suits(
    x_shape: tuple[int, ...],
    dtype: DTypeLike,
    kernel_shape: tuple[int, ...],
    stride: int,
    groups: int,
    device_kind: str = "",
) -> bool:
    """Returns whether the kernels take a layer: many views, and groups that fill tiles.

    Args:
        x_shape: The input's, as `forward` takes it.
        dtype: The input's.
        kernel_shape: The kernel's.
        stride: Step between outputs, in samples.
        groups: Number of channel groups.
        device_kind: As JAX names the TPU, where it is known; see `vmem.capacity`.
    """
    taps, channels, width = kernel_shape
    return (
        dtype in (jnp.bfloat16, jnp.float32)
        and x_shape[0] >= LANES // 2
        and width == groups * channels
        and channels <= _WIDEST
        and groups % groups_of_a_tile(channels) == 0
        and stride in (1, 2)
        and stride <= taps <= 2 * HALO
        and vmem.capacity(device_kind) > 0
    )


def forward(
    x: jax.Array,
    kernel: jax.Array,
    stride: int,
    groups: int,
    *,
    bias: jax.Array | None = None,
    activate: bool = False,
    interpret: bool = False,
) -> jax.Array:
    """Returns the SAME convolution `[N, ceil(T / stride), C_out]` in the type of `x`.

    Args:
        x: Input `[N, T, C_in]`.
        kernel: Taps `[K, C_in / groups, C_out]`, of the type of `x`.
        stride: Step between outputs, in samples.
        groups: Number of channel groups.
        bias: What to add to it, `[C_out]`.
        activate: Whether to convolve swish(x).
        interpret: Whether to run without a TPU, slowly.
    """
    samples, outputs = x.shape[1], -(-x.shape[1] // stride)
    w = rows_of_kernel(kernel, groups)
    make = functools.partial(forward_blocks, samples, len(kernel), stride)
    blocks = cheapest(make, outputs, w.shape[1])
    y, _ = toeplitz_product(
        lanes_last(x), w[:, None], blocks, outputs,
        bias=bias, activate=activate, interpret=interpret,
    )  # fmt: skip
    return lanes_first(y)


def input_gradient(
    x: jax.Array,
    kernel: jax.Array,
    dy: jax.Array,
    stride: int,
    groups: int,
    *,
    interpret: bool = False,
) -> jax.Array:
    """Returns the gradient for `x`, of its shape and type, given `dy` for `forward`'s result.

    Arguments are `forward`'s; of `x` no value is used.
    """
    dx, _ = _input_gradient(x.shape[1], kernel, dy, stride, groups, interpret=interpret)
    return dx


def activated_input_gradient(
    x: jax.Array,
    kernel: jax.Array,
    dy: jax.Array,
    stride: int,
    groups: int,
    *,
    interpret: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """Returns the gradients for `x` and, in float32, `bias`, given `dy` for the activated one.

    Other arguments are `forward`'s.
    """
    activated = lanes_last(x)
    dx, sums = _input_gradient(
        x.shape[1], kernel, dy, stride, groups, activated=activated, interpret=interpret
    )
    return dx, sums.sum(axis=1)


def _input_gradient(samples, kernel, dy, stride, groups, **options):
    w = tiles_of_kernel(kernel, groups)
    make = functools.partial(input_gradient_blocks, samples, len(kernel), stride)
    blocks = cheapest(make, samples, w.shape[-1])
    w = _by_phase(w.transpose(0, 2, 1, 3), blocks)
    dx, sums = toeplitz_product(lanes_last(dy), w, blocks, samples, **options)
    return lanes_first(dx), sums


def _by_phase(w: jax.Array, blocks: Blocks) -> jax.Array:
    """Returns taps `[tiles, q, K, p]` as `[tiles, phases, q, taps * p]`, in the phases' order."""
    most = max(map(len, blocks.phases))

    def taps(phase: range) -> jax.Array:
        forwards = phase if phase.step > 0 else phase[::-1]
        part = w[:, :, forwards.start : forwards.stop : forwards.step]
        part = part if phase.step > 0 else part[:, :, ::-1]
        part = jnp.pad(part, ((0, 0), (0, 0), (0, most - len(phase)), (0, 0)))
        return part.reshape(*part.shape[:2], -1)

    return jnp.stack([taps(phase) for phase in blocks.phases], axis=1)
