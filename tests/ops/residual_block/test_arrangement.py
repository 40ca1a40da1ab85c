"""Matrices for several samples at once, against the block's own maps, sample by sample."""

import jax
import numpy as np
import pytest

from clef_jax.ops.residual_block import arrangement
from clef_jax.ops.residual_block.geometry import UNIT, Geometry

into_middle, out_of_middle, toeplitz, toeplitz_transposed = (
    jax.jit(arrange, static_argnums=1)
    for arrange in (
        arrangement.into_middle,
        arrangement.out_of_middle,
        arrangement.toeplitz,
        arrangement.toeplitz_transposed,
    )
)


def shape_of(channels, middle, width, groups, taps, stride, samples=40):
    return Geometry(128, samples, channels, middle, width, groups, taps, stride, activate=True)


SHAPES = [
    shape_of(32, 16, 32, groups=4, taps=16, stride=2),  # clef_small's first two blocks
    shape_of(32, 32, 64, groups=8, taps=16, stride=2),
    shape_of(64, 64, 64, groups=16, taps=16, stride=1, samples=313),
    shape_of(64, 48, 32, groups=3, taps=5, stride=1, samples=41),
    shape_of(16, 64, 128, groups=2, taps=7, stride=2, samples=41),
    shape_of(128, 16, 16, groups=1, taps=2, stride=1),
]


def by_pack(x, shape):
    """Returns `x [samples, middle]` in the middle's order: by pack, sample and channel."""
    return x.reshape(len(x), shape.packs, shape.wide).swapaxes(0, 1)


def convolution_at(kernel, shape, tap):
    """Returns the dense map `[middle in, middle out]` of one tap of a grouped convolution."""
    inner = shape.middle // shape.groups
    dense = np.zeros((shape.middle, shape.middle))
    for group in range(shape.groups):
        own = slice(group * inner, (group + 1) * inner)
        dense[own, own] = kernel[tap][:, own]
    return dense


@pytest.mark.parametrize("shape", SHAPES)
def test_maps_of_several_samples_are_those_of_each(shape):
    rng = np.random.default_rng(0)
    into = rng.normal(size=(shape.channels, shape.middle))
    x = rng.normal(size=(shape.together(shape.channels), shape.channels))
    found = into_middle(into, shape) @ x.reshape(-1)
    np.testing.assert_allclose(found, by_pack(x @ into, shape).reshape(-1), atol=1e-4)

    out = rng.normal(size=(shape.middle, shape.width))
    h = rng.normal(size=(shape.together(shape.middle), shape.middle))
    found = out_of_middle(out, shape) @ by_pack(h, shape).reshape(-1)
    np.testing.assert_allclose(found, (h @ out).reshape(-1), atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_window_makes_a_unit_of_outputs(shape):
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(shape.taps, shape.middle // shape.groups, shape.middle))
    window = rng.normal(size=(shape.window, shape.middle))
    expected = np.zeros((UNIT, shape.middle))
    for output in range(UNIT):
        for tap in range(shape.taps):
            seen = window[output * shape.stride + tap]
            expected[output] += seen @ convolution_at(kernel, shape, tap)
    found = np.einsum(
        "pij,pj->pi", toeplitz(kernel, shape), by_pack(window, shape).reshape(shape.packs, -1)
    )
    np.testing.assert_allclose(found.reshape(shape.packs, UNIT, -1), by_pack(expected, shape),
                               atol=1e-4)  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_outputs_that_reach_a_unit_of_samples_make_its_gradient(shape):
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(shape.taps, shape.middle // shape.groups, shape.middle))
    dy = rng.normal(size=(len(shape.reached), shape.middle))
    expected = np.zeros((UNIT * shape.stride, shape.middle))
    for sample in range(UNIT * shape.stride):
        for output, gradient in zip(shape.reached, dy, strict=True):
            tap = sample + shape.before - output * shape.stride
            if 0 <= tap < shape.taps:
                expected[sample] += convolution_at(kernel, shape, tap) @ gradient
    matrix = toeplitz_transposed(kernel, shape)
    found = np.einsum("pij,pj->pi", matrix, by_pack(dy, shape).reshape(shape.packs, -1))
    np.testing.assert_allclose(found.reshape(shape.packs, len(expected), -1),
                               by_pack(expected, shape), atol=1e-4)  # fmt: skip
