"""The residual block's kernels, interpreted, against the layers that they stand for."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from clef_jax.models.resnext1d import Block
from clef_jax.ops.residual_block import Geometry, Parameters, geometry, residual_block, suits

# Channels in, middle and out, groups, stride: the structure of the three sizes' blocks.
STRUCTURES = {
    "small-first": (32, 16, 32, 4, 2, False),
    "small-growing": (64, 64, 128, 16, 2, True),
    "small": (64, 32, 64, 8, 1, True),
    "medium": (32, 32, 32, 2, 1, True),
    "medium-growing": (64, 160, 160, 10, 2, True),
    "large": (64, 96, 64, 2, 1, True),
}


def make_block(structure, views, samples):
    channels, middle, width, groups, stride, activate = STRUCTURES[structure]
    shape = Geometry(views, samples, channels, middle, width, groups, 16, stride, activate)
    block = Block(
        width=width,
        ratio=middle / width,
        group_width=width // groups,
        kernel_size=16,
        stride=stride,
        activate_input=activate,
    )
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (views, samples, channels))
    params = block.init(keys[1], x)["params"]
    dy = jax.random.normal(keys[2], (views, shape.outputs, width))
    return shape, block, params, x, dy


def pass_through(f, x, params, dy):
    y, vjp = jax.vjp(f, x, params)
    return y, *vjp(dy)


def as_parameters(params):
    layers = ("conv1", "conv2", "conv3", "se_fc1", "se_fc2")
    return Parameters(*(params[layer][part] for layer in layers for part in ("kernel", "bias")))


def by_kernels(shape):
    def block(x, params):
        return residual_block(x, as_parameters(params), shape, interpret=True)

    return jax.jit(functools.partial(pass_through, block))


def by_layers(block):
    return jax.jit(functools.partial(pass_through, lambda x, p: block.apply({"params": p}, x)))


def assert_near(found, expected, tolerance):
    """Compares with each array's own largest value: single elements may cancel to nothing."""
    paths = jax.tree_util.tree_leaves_with_path(expected)
    for (path, e), f in zip(paths, jax.tree.leaves(found), strict=True):
        assert f.shape == e.shape
        error = np.abs(np.asarray(f, np.float64) - np.asarray(e, np.float64)).max()
        assert error <= tolerance * np.abs(np.asarray(e, np.float64)).max(), (path, error)


@pytest.mark.parametrize(
    "structure, samples",
    [("small-first", 50), ("small-growing", 37), ("medium", 41)],
)
def test_equals_the_layers_and_their_gradients(structure, samples, monkeypatch):
    # Several chunks, the last of them ragged, though the signal is short.
    monkeypatch.setattr(geometry, "_CHUNK_BYTES", 1)
    shape, block, params, x, dy = make_block(structure, 128, samples)
    assert shape.chunks > 1
    assert_near(by_kernels(shape)(x, params, dy), by_layers(block)(x, params, dy), 2e-6)
