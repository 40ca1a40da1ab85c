"""ResNeXt1D, the CLEF encoder: grouped-convolution residual blocks without normalisation layers."""

from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike

from clef_jax.ops.activation import swish
from clef_jax.ops.broadcast import add_bias, scale_channels
from clef_jax.ops.grouped_conv import activated_conv, grouped_conv
from clef_jax.ops.grouped_conv.choice import imposed
from clef_jax.ops.pointwise import pointwise
from clef_jax.ops.pooling import beside_max_of_pairs, beside_mean
from clef_jax.ops.residual_block import Geometry, Parameters, residual_block, suits
from clef_jax.ops.varying import varying_alike
from clef_jax.ops.vmem import device_kind

# Uniform with variance 1/(3 fan_in), which is what the original's framework draws by default.
_kernel_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def _bias_init(fan_in: int):
    """Returns the initialiser U(-1/sqrt(fan_in), 1/sqrt(fan_in)) of the original's framework."""
    bound = fan_in**-0.5

    def init(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class Conv(nn.Module):
    """Convolution over time with bias. `[N, T, C] -> [N, ceil(T / stride), width]`."""

    width: int
    kernel_size: int
    stride: int = 1
    groups: int = 1
    activate_input: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns the convolution of `x [N, T, C]`, or of swish(x), computed in `dtype`."""
        channels = x.shape[-1] // self.groups
        kernel = self.param("kernel", _kernel_init, (self.kernel_size, channels, self.width))
        bias = self.param("bias", _bias_init(self.kernel_size * channels), (self.width,))
        # Parameters go in as they are, so that their gradients come out in their own type.
        x = x.astype(self.dtype)
        if self.activate_input:
            return activated_conv(x, kernel, bias, stride=self.stride, groups=self.groups)
        return add_bias(grouped_conv(x, kernel, stride=self.stride, groups=self.groups), bias)


class ConvWithMean(nn.Module):
    """Convolution of one tap with bias. `[N, T, C] -> [N, T, width]` and its mean `[N, width]`."""

    width: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the convolution of `x [N, T, C]` and its mean over time, computed in `dtype`."""
        channels = x.shape[-1]
        kernel = self.param("kernel", _kernel_init, (1, channels, self.width))
        bias = self.param("bias", _bias_init(channels), (self.width,))
        x, matrix, bias = varying_alike(x.astype(self.dtype), kernel[0], bias)
        x, mean = beside_mean(x)
        y = add_bias(pointwise(x, matrix), bias)
        squeeze = {"cpu": _mean_of_map, "default": _map_of_mean}
        return y, lax.platform_dependent(y, mean, matrix, bias, **squeeze)


def _mean_of_map(y, mean, matrix, bias):
    del mean, matrix, bias
    return y.mean(axis=1)


def _map_of_mean(y, mean, matrix, bias):
    # The same number: an affine map commutes with a mean. On accelerators products end in memory,
    # so that a mean of them reads them once more, forwards, and writes them once more, backwards.
    return add_bias(pointwise(mean, matrix), bias).astype(y.dtype)


class Linear(nn.Module):
    """Affine map of the last axis. `[N, C] -> [N, width]`."""

    width: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns `x [N, C]` mapped to `[N, width]`, computed in `dtype`."""
        channels = x.shape[-1]
        kernel = self.param("kernel", _kernel_init, (channels, self.width))
        bias = self.param("bias", _bias_init(channels), (self.width,))
        return add_bias(pointwise(x.astype(self.dtype), kernel), bias)


def _grow_channels(x: jax.Array, width: int) -> jax.Array:
    """Pads channels with zeros to `width`: half (rounded down) before them and the rest after."""
    missing = width - x.shape[-1]
    return jnp.pad(x, ((0, 0), (0, 0), (missing // 2, missing - missing // 2)))


def _parameters(block: Any) -> Parameters:
    """Returns a block's parameters as the fused operation takes them."""
    names = ("conv1", "conv2", "conv3", "se_fc1", "se_fc2")
    return Parameters(*(block[name][part] for name in names for part in ("kernel", "bias")))


class Block(nn.Module):
    """Bottleneck residual block: 1x1, grouped k16, 1x1 convolutions, then squeeze-excite."""

    width: int
    ratio: float
    group_width: int
    kernel_size: int
    stride: int
    activate_input: bool
    dtype: DTypeLike = jnp.float32

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns `[N, ceil(T / stride), width]` for `x [N, T, C]` with C <= width."""
        shape = Geometry(
            views=x.shape[0],
            samples=x.shape[1],
            channels=x.shape[2],
            middle=int(self.width * self.ratio),
            width=self.width,
            groups=self.width // self.group_width,
            taps=self.kernel_size,
            stride=self.stride,
            activate=self.activate_input,
        )
        dtype = np.promote_types(x.dtype, self.dtype)
        if self.is_initializing() or imposed() or not suits(shape, dtype, device_kind()):
            return self.layers(x)

        def by_kernel(x: jax.Array, params: Any) -> jax.Array:
            return residual_block(x, _parameters(params), shape)

        def by_layers(x: jax.Array, params: Any) -> jax.Array:
            found = self.clone(parent=None).apply({"params": params}, x, method="layers")
            return cast(jax.Array, found)

        params = self.variables["params"]
        return lax.platform_dependent(x, params, tpu=by_kernel, default=by_layers)

    @nn.compact
    def layers(self, x: jax.Array) -> jax.Array:
        """Returns the block's output, layer by layer."""
        middle = int(self.width * self.ratio)
        shortcut = x
        if self.stride == 2:
            x, shortcut = beside_max_of_pairs(x)
        y = swish(x) if self.activate_input else x
        y = Conv(middle, 1, dtype=self.dtype, name="conv1")(y)
        y = Conv(
            middle,
            self.kernel_size,
            stride=self.stride,
            groups=self.width // self.group_width,
            activate_input=True,
            dtype=self.dtype,
            name="conv2",
        )(y)
        y, mean = ConvWithMean(self.width, dtype=self.dtype, name="conv3")(swish(y))

        gate = Linear(self.width // 2, dtype=self.dtype, name="se_fc1")(mean)
        gate = Linear(self.width, dtype=self.dtype, name="se_fc2")(swish(gate))
        y = scale_channels(y, nn.sigmoid(gate))

        return y + _grow_channels(shortcut, self.width)


class ResNeXt1D(nn.Module):
    """The CLEF encoder. `x [N, T, C] -> embeddings [N, D]`, for any T of at least one sample.

    There are no normalisation layers and no dropout, so training and inference are one function.
    Parameters are `stem`, then `stage{S}_block{B}` with `conv1`, `conv2`, `conv3`, `se_fc1`,
    `se_fc2`. Attributes are those of `models.ResNeXt1DConfig`.

    Example:
        >>> model = ResNeXt1D(
        ...     stem_width=4, ratio=1.0, stage_widths=(4, 8), stage_blocks=(1, 1), group_width=2
        ... )
        >>> x = jnp.zeros((3, 100, 1))
        >>> embedding, variables = jax.jit(model.init_with_output)(jax.random.key(0), x)
        >>> embedding.shape, sorted(variables["params"])
        ((3, 8), ['stage0_block0', 'stage1_block0', 'stem'])
    """

    stem_width: int
    ratio: float
    stage_widths: tuple[int, ...]
    stage_blocks: tuple[int, ...]
    group_width: int
    kernel_size: int = 16
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns float32 (or, for float64 input and dtype, float64) embeddings `[N, D]`.

        Every stage's output `[N, T_s, width_s]` is sown as the intermediate `stage{S}`.
        """
        block_class = nn.remat(Block) if self.remat else Block
        x = Conv(self.stem_width, self.kernel_size, stride=2, dtype=self.dtype, name="stem")(x)
        x = swish(x)
        for stage, (width, blocks) in enumerate(
            zip(self.stage_widths, self.stage_blocks, strict=True)
        ):
            for block in range(blocks):
                x = block_class(
                    width=width,
                    ratio=self.ratio,
                    group_width=self.group_width,
                    kernel_size=self.kernel_size,
                    stride=2 if block == 0 else 1,
                    activate_input=(stage, block) != (0, 0),
                    dtype=self.dtype,
                    name=f"stage{stage}_block{block}",
                )(x)
            self.sow("intermediates", f"stage{stage}", x)
        return x.mean(axis=1, dtype=np.promote_types(x.dtype, jnp.float32))
