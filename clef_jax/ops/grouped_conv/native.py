"""The three passes as XLA's own operation and its own derivatives."""

import jax
from jax import lax

_DIMENSIONS = ("NWC", "WIO", "NWC")


def forward(x: jax.Array, kernel: jax.Array, stride: int, groups: int) -> jax.Array:
    """Returns the SAME convolution; arguments and result as in `passes.forward`."""
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride,),
        padding="SAME",
        dimension_numbers=_DIMENSIONS,
        feature_group_count=groups,
    )


def input_gradient(
    x: jax.Array, kernel: jax.Array, dy: jax.Array, stride: int, groups: int
) -> jax.Array:
    """Returns the gradient for `x`; arguments and result as in `passes.input_gradient`."""
    return jax.linear_transpose(lambda a: forward(a, kernel, stride, groups), x)(dy)[0]


def kernel_gradient(
    x: jax.Array, kernel: jax.Array, dy: jax.Array, stride: int, groups: int
) -> jax.Array:
    """Returns the gradient for `kernel`; arguments and result as in `passes.kernel_gradient`.

    It is what the transpose of `forward` would be, not rounded to the type of `x` on its way.
    """
    taps, samples, outputs = len(kernel), x.shape[1], dy.shape[1]
    reach = (outputs - 1) * stride + 1
    before = max(0, reach - 1 + taps - samples) // 2
    return lax.conv_general_dilated(
        x,
        dy,
        window_strides=(1,),
        padding=((before, reach - 1 + taps - samples - before),),
        rhs_dilation=(stride,),
        # Time of `dy` is the window; channels of `x` are the batch, and the batch is summed over.
        dimension_numbers=("CWN", "IWO", "WNC"),
        batch_group_count=groups,
        preferred_element_type=kernel.dtype,
    )
