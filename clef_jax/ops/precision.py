"""What float32 means on hardware that would rather multiply with fewer digits."""

import contextlib

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


def multiply_as(dtype: DTypeLike) -> contextlib.AbstractContextManager:
    """Returns the context in which a function is to be traced that computes in `dtype`.

    Accelerators multiply float32 with 8 (TPU) or 11 (GPU) bits by default. In this context float32
    products keep all 24, forwards and backwards; those of bfloat16 stay as the hardware makes them.
    """
    if jnp.dtype(dtype) == jnp.float32:
        return jax.default_matmul_precision("float32")
    return contextlib.nullcontext()
