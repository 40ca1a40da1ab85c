"""The residual block as one differentiable operation."""

import functools

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from clef_jax.ops import vmem
from clef_jax.ops.residual_block.arrangement import (
    Parameters,
    Weights,
    arrange,
    arrange_maps,
    out_of_middle,
)
from clef_jax.ops.residual_block.backward import backward
from clef_jax.ops.residual_block.forward import forward
from clef_jax.ops.residual_block.geometry import LANES, ROWS, Geometry
from clef_jax.ops.varying import varying_alike

# By the compiler's schedules for a v5e, 512 views forwards and backwards, stride 2: 16 channels in
# the middle, from 2,500 samples, take 0.69 ms by these kernels and 1.60 ms by layers that fold time
# (2.08 plain); 32 channels, from 1,250 samples, 0.66 and 1.70 ms (plain); from 625, 0.43 and 0.75
# ms. The layers are bound by their traffic and by pushes of narrow weights. At stride 1 folded
# layers are as fast as these.
_WIDEST = 32


def suits(shape: Geometry, dtype: DTypeLike, device_kind: str = "") -> bool:
    """Returns whether a TPU computes a block of this shape and type faster by `residual_block`.

    Args:
        shape: The block's shape.
        dtype: The type computed in.
        device_kind: As JAX names the TPU, where it is known; see `vmem.capacity`.
    """
    inner = shape.middle // shape.groups
    tiled = all(
        channels % ROWS == 0
        for channels in (shape.channels, shape.middle, shape.width, shape.offset)
    )
    return (
        jnp.dtype(dtype) == jnp.bfloat16
        and shape.stride == 2
        and shape.middle <= _WIDEST
        and shape.views % LANES == 0
        and tiled
        and (inner % ROWS == 0 or ROWS % inner == 0)
        and shape.samples > shape.taps
        and shape.vmem_limit <= vmem.capacity(device_kind)
    )


def residual_block(
    x: jax.Array, parameters: Parameters, shape: Geometry, *, interpret: bool = False
) -> jax.Array:
    """Computes a residual block, forwards and backwards, in a TPU core's fast memory.

    Of the forward pass the gradient keeps `x` alone.

    Args:
        x: Input `[N, T, C]`.
        parameters: The block's, of the type of `x` or a wider one; gradients are float32 sums.
        shape: The block's shape: channels in multiples of 16, views of 128.
        interpret: Whether to run the kernels on any platform, slowly.

    Returns:
        Output `[N, ceil(T / stride), width]` in the type of `x`.
    """
    x, *rest = varying_alike(x, *parameters)
    return _block(x, Parameters(*rest), shape, interpret)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _block(x: jax.Array, parameters: Parameters, shape: Geometry, interpret: bool) -> jax.Array:
    weights = _narrow(arrange(parameters, shape), x.dtype)
    expand = out_of_middle(parameters.conv3[0].astype(x.dtype), shape)
    # Views last is how a TPU has them in memory: nothing moves.
    y = forward(x.transpose(1, 2, 0), weights, expand, shape, interpret=interpret)
    return y.transpose(2, 0, 1)


def _forward(x, parameters, shape, interpret):
    return _block(x, parameters, shape, interpret), (x, parameters)


def _backward(shape, interpret, saved, dy):
    x, parameters = saved
    weights, transpose = jax.vjp(functools.partial(arrange, shape=shape), parameters)
    dx, gradients = backward(
        x.transpose(1, 2, 0),
        dy.transpose(1, 2, 0),
        _narrow(weights, x.dtype),
        arrange_maps(parameters, shape, x.dtype),
        shape,
        interpret=interpret,
    )
    gradients = jax.tree.map(lambda g, w: g.astype(w.dtype), gradients, weights)
    return dx.transpose(2, 0, 1), transpose(gradients)[0]


_block.defvjp(_forward, _backward)


def _narrow(weights: Weights, dtype: DTypeLike) -> Weights:
    """Returns weights with matrices in `dtype`; biases are added in float32."""
    return weights._replace(
        **{
            name: matrix.astype(dtype)
            for name, matrix in weights._asdict().items()
            if not name.endswith("bias")
        }
    )
