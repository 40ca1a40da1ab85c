"""The three passes between fewer, wider groups: several groups' kernels in one, block-diagonal.

XLA has slow forms for grouped convolutions and fast ones for dense convolutions. Where p groups are
packed into one, its kernel holds theirs as blocks on its diagonal and zeros elsewhere, which costs
p times the arithmetic and, where matrix units are wider than a group, no time.
"""

import jax
import jax.numpy as jnp
from jax import lax

from clef_jax.ops.grouped_conv import native

# Channels of a packed group: enough for a matrix unit, and no more zeros than it would waste.
_ENOUGH, _MOST = 64, 128


def forward(x: jax.Array, kernel: jax.Array, stride: int, groups: int) -> jax.Array:
    """Returns the SAME convolution; arguments and result as in `passes.forward`."""
    packed = groups // pack_size(kernel.shape[1], groups)
    return native.forward(x, pack_kernel(kernel, groups, packed), stride, packed)


def input_gradient(
    x: jax.Array, kernel: jax.Array, dy: jax.Array, stride: int, groups: int
) -> jax.Array:
    """Returns the gradient for `x`; arguments and result as in `passes.input_gradient`."""
    packed = groups // pack_size(kernel.shape[1], groups)
    return native.input_gradient(x, pack_kernel(kernel, groups, packed), dy, stride, packed)


def kernel_gradient(
    x: jax.Array, kernel: jax.Array, dy: jax.Array, stride: int, groups: int
) -> jax.Array:
    """Returns the gradient for `kernel`; arguments and result as in `passes.kernel_gradient`."""
    packed = groups // pack_size(kernel.shape[1], groups)
    wide = jnp.zeros((len(kernel), x.shape[2] // packed, kernel.shape[2]), kernel.dtype)
    return unpack_kernel(native.kernel_gradient(x, wide, dy, stride, packed), groups, packed)


def pack_size(channels: int, groups: int) -> int:
    """Returns how many of `groups` groups of `channels` channels are packed into one.

    The fewest that make 64 channels, or else the most that make no more than 128, and 1 where a
    group is as wide by itself.
    """
    sizes = [p for p in range(1, groups + 1) if groups % p == 0 and channels * p <= _MOST]
    return next((p for p in sizes if channels * p >= _ENOUGH), max(sizes, default=1))


def pack_kernel(kernel: jax.Array, groups: int, packed: int) -> jax.Array:
    """Returns `kernel [K, C_in / groups, C_out]` for `packed` groups: `[K, C_in / packed, C_out]`.

    A packed group's rows and columns are those of its groups, one after another.
    """
    if (size := groups // packed) == 1:
        return kernel
    w = jnp.tile(kernel, (1, size, 1))
    return jnp.where(_own(w, size, groups), w, 0)


def unpack_kernel(w: jax.Array, groups: int, packed: int) -> jax.Array:
    """Returns the cotangent of `pack_kernel`'s argument for that of its result: the blocks."""
    taps, channels, width = w.shape
    if (size := groups // packed) == 1:
        return w
    w = jnp.where(_own(w, size, groups), w, 0)
    return w.reshape(taps, size, channels // size, width).sum(axis=1)


def _own(w: jax.Array, size: int, groups: int) -> jax.Array:
    """Returns where inputs and outputs of `w [K, C_in / packed, C_out]` are of one group.

    Told by channels' numbers: reshaped to axes as short as a group, it is ten times the code that
    a TPU's compiler makes.
    """
    _, channels, width = w.shape
    # Unsigned, as dividing signed numbers takes care of signs.
    inputs, outputs = (lax.broadcasted_iota(jnp.uint32, w.shape[1:], axis) for axis in (0, 1))
    return inputs // (channels // size) == outputs // (width // groups) % size
