"""Folding time into channels: a strided convolution becomes a short one between wider groups.

Time is cut into blocks of `block * stride` input samples, which make `block` outputs each. With a
block's samples counted as channels, the convolution has stride 1 and only `reach` taps (in blocks),
its groups are `block * stride` times wider, and its kernel is a Toeplitz arrangement of the taps.
Group widths of 4 to 48 suit no hardware; folded ones can be given the width that does, for
`reach * block * stride / taps` times the arithmetic. At `block = 1` there is none to spare, and a
stride of 2 is gone all the same.

Shapes below: g groups, p = block * stride * C_in / g and q = block * C_out / g folded channels.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax


@dataclasses.dataclass(frozen=True)
class Geometry:
    """One convolution with XLA's SAME padding, and how its time is folded.

    Attributes:
        samples: Input length T.
        taps: Kernel length K.
        stride: Step between outputs, in samples.
        groups: Number of channel groups.
        block: Outputs of one block.
    """

    samples: int
    taps: int
    stride: int
    groups: int
    block: int

    @property
    def outputs(self) -> int:
        """Output length, `ceil(samples / stride)`."""
        return -(-self.samples // self.stride)

    @property
    def padding(self) -> tuple[int, int]:
        """Zeros that SAME padding puts before and after the samples."""
        zeros = max(0, (self.outputs - 1) * self.stride + self.taps - self.samples)
        return zeros // 2, zeros - zeros // 2

    @property
    def span(self) -> int:
        """Input samples of one block."""
        return self.block * self.stride

    @property
    def blocks(self) -> int:
        """Blocks of outputs."""
        return -(-self.outputs // self.block)

    @property
    def reach(self) -> int:
        """Blocks of input that one block of outputs draws on: the folded kernel's length."""
        return -(-(self.span - self.stride + self.taps) // self.span)


def fold_input(x: jax.Array, geometry: Geometry) -> jax.Array:
    """Returns `x [N, T, C_in]` padded and folded: `[N, blocks + reach - 1, g, p]`."""
    batch, samples, channels = x.shape
    blocks = geometry.blocks + geometry.reach - 1
    before = geometry.padding[0]
    # Negative where a kernel shorter than its stride leaves samples that no output sees.
    after = blocks * geometry.span - before - samples
    x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), (before, after, 0), (0, 0, 0)))
    return _blocks_of(x, geometry.span, geometry.groups)


def unfold_input(x: jax.Array, geometry: Geometry) -> jax.Array:
    """Returns the cotangent `[N, T, C_in]` of `fold_input`'s argument for that of its result."""
    x = _time_of(x, geometry.span)
    before = geometry.padding[0]
    after = geometry.samples - x.shape[1] + before
    return lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), (-before, after, 0), (0, 0, 0)))


def fold_output(y: jax.Array, geometry: Geometry) -> jax.Array:
    """Returns `y [N, outputs, C_out]` folded, zeros after its end: `[N, blocks, g, q]`."""
    missing = geometry.blocks * geometry.block - geometry.outputs
    y = jnp.pad(y, ((0, 0), (0, missing), (0, 0)))
    return _blocks_of(y, geometry.block, geometry.groups)


def unfold_output(y: jax.Array, geometry: Geometry) -> jax.Array:
    """Returns `[N, outputs, C_out]` of a folded `[N, blocks, g, q]`."""
    return _time_of(y, geometry.block)[:, : geometry.outputs]


def fold_kernel(kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """Returns the Toeplitz arrangement `[reach, p, g, q]` of `kernel [K, C_in / g, C_out]`.

    Entry `[r, (i, :), g, (t, :)]` is group g's tap number `r * span + i - t * stride`, or zero.
    """
    taps, channels, width = kernel.shape
    block, span, reach = geometry.block, geometry.span, geometry.reach
    w = kernel.reshape(taps, channels * width)
    if block > 1:
        # Row t of a matrix with reach * span columns is the taps, t * stride to the right: lay
        # equal rows that are `stride` too long end to end, and cut them again at the right length.
        rows = jnp.pad(w, ((0, reach * span + geometry.stride - taps), (0, 0)))
        rows = jnp.broadcast_to(rows[None], (block, *rows.shape)).reshape(-1, channels * width)
        w = rows[: block * reach * span]
    else:
        w = jnp.pad(w, ((0, reach * span - taps), (0, 0)))
    groups = geometry.groups
    w = w.reshape(block, reach, span, channels, groups, width // groups)
    return w.transpose(1, 2, 3, 4, 0, 5).reshape(reach, span * channels, groups, -1)


def unfold_kernel(w: jax.Array, geometry: Geometry) -> jax.Array:
    """Returns the cotangent `[K, C_in / g, C_out]` of `fold_kernel`'s argument for its result's."""
    taps, groups = geometry.taps, geometry.groups
    block, span, reach = geometry.block, geometry.span, geometry.reach
    channels, width = w.shape[1] // span, w.shape[3] // block
    w = w.reshape(reach, span, channels, groups, block, width).transpose(4, 0, 1, 2, 3, 5)
    w = w.reshape(block, reach * span, channels, groups * width)
    if block > 1:
        rows = jnp.pad(w.reshape(-1, *w.shape[2:]), ((0, block * geometry.stride), (0, 0), (0, 0)))
        w = rows.reshape(block, -1, *w.shape[2:])
    return w[:, :taps].sum(axis=0)


def _blocks_of(x: jax.Array, span: int, groups: int) -> jax.Array:
    batch, samples, channels = x.shape
    x = x.reshape(batch, samples // span, span, groups, channels // groups)
    return x.swapaxes(2, 3).reshape(batch, samples // span, groups, -1)


def _time_of(x: jax.Array, span: int) -> jax.Array:
    batch, blocks, groups, width = x.shape
    x = x.reshape(batch, blocks, groups, span, width // span)
    return x.swapaxes(2, 3).reshape(batch, blocks * span, -1)
