"""Time cut into parts that fit in VMEM against the same in one part."""

import jax.numpy as jnp
import numpy as np
import pytest

from clef_jax.ops.grouped_conv.kernels.blocks import forward_blocks, input_gradient_blocks
from clef_jax.ops.grouped_conv.kernels.product import toeplitz_product


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("make", [forward_blocks, input_gradient_blocks])
def test_long_recordings_are_cut_into_parts(make, stride):
    samples = 333
    rng = np.random.default_rng(0)
    short = -(-samples // stride)
    inputs, outputs = (samples, short) if make is forward_blocks else (short, samples)
    blocks = make(samples, 16, stride, 5)
    x = jnp.asarray(rng.normal(size=(inputs, 16, 2)), jnp.float32)
    w = rng.normal(size=(1, len(blocks.phases), 16, len(blocks.phases[0]) * 16)) / 16
    beside = dict(
        activate=True,
        bias=jnp.arange(16.0),
        activated=jnp.asarray(rng.normal(size=(outputs, 16, 2)), jnp.float32),
        interpret=True,
    )
    w = jnp.asarray(w, jnp.float32)
    cut, whole = (
        toeplitz_product(x, w, blocks, outputs, tile_bytes=tile_bytes, **beside)
        for tile_bytes in (1 << 15, 1 << 24)
    )
    np.testing.assert_allclose(cut[0], whole[0], rtol=0, atol=1e-5 * np.abs(whole[0]).max())
    np.testing.assert_allclose(cut[1], whole[1], rtol=0, atol=1e-4)
