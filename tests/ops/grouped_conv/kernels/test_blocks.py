"""How passes are cut, checked by multiplying the matrices out."""

import numpy as np
import pytest

from clef_jax.ops.grouped_conv.kernels.blocks import (
    cheapest,
    forward_blocks,
    input_gradient_blocks,
)

CASES = [
    (samples, taps, stride, block)
    for samples in (1, 2, 9, 40, 41)
    for taps, stride in ((1, 1), (5, 1), (16, 1), (2, 2), (16, 2), (7, 3), (9, 4))
    for block in (1, 3, 8)
]


def multiply(blocks, x, kernel, outputs):
    """Returns the blocks' outputs, window by window."""
    matrix = np.zeros((blocks.outputs, blocks.reach))
    for o, shift in enumerate(blocks.shifts):
        phase = blocks.phases[o % len(blocks.phases)]
        matrix[o, shift : shift + len(phase)] = kernel[list(phase)]
    count = -(-outputs // blocks.outputs)
    padded = np.zeros(blocks.before + len(x) + count * blocks.span + blocks.reach)
    padded[blocks.before : blocks.before + len(x)] = x
    windows = [padded[i * blocks.span :][: blocks.reach] for i in range(count)]
    return np.concatenate([matrix @ window for window in windows])[:outputs]


def convolution(samples, taps, stride, kernel):
    """Returns the SAME convolution's matrix, from its definition."""
    outputs = -(-samples // stride)
    left = max(0, (outputs - 1) * stride + taps - samples) // 2
    matrix = np.zeros((outputs, samples))
    for t in range(outputs):
        for k in range(taps):
            if 0 <= t * stride + k - left < samples:
                matrix[t, t * stride + k - left] = kernel[k]
    return matrix


@pytest.mark.parametrize("case", CASES, ids=str)
def test_blocks_make_the_convolution_and_its_transpose(case):
    samples, taps, stride, _ = case
    rng = np.random.default_rng(samples)
    kernel, x = rng.normal(size=taps), rng.normal(size=samples)
    matrix = convolution(samples, taps, stride, kernel)
    y = multiply(forward_blocks(*case), x, kernel, len(matrix))
    np.testing.assert_allclose(y, matrix @ x, rtol=0, atol=1e-12)
    dy = rng.normal(size=len(matrix))
    dx = multiply(input_gradient_blocks(*case), dy, kernel, samples)
    np.testing.assert_allclose(dx, matrix.T @ dy, rtol=0, atol=1e-12)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_a_strided_input_gradient_multiplies_no_padding(stride):
    blocks = input_gradient_blocks(100, 16, stride, 8)
    assert {len(phase) for phase in blocks.phases} == {16 // stride}
    assert blocks.reach == 8 + 16 // stride - (stride == 1)


def test_windows_of_narrow_groups_fill_a_matrix_unit():
    def chosen(outputs, channels):
        return cheapest(lambda block: forward_blocks(1000, 16, 1, block), outputs, channels)

    assert chosen(1000, 16).reach * 16 == 3 * 128
    assert chosen(1000, 128).outputs == 1 or chosen(1000, 128).reach >= 16
    # Of a few outputs none is computed in vain.
    assert chosen(20, 16).outputs in (7, 10, 20)
