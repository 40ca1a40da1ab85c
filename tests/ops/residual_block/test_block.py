"""The residual block's kernels, interpreted, against the layers that they stand for."""

import dataclasses
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import topologies
from jax.sharding import Mesh, PartitionSpec, SingleDeviceSharding

from clef_jax.models import resnext1d
from clef_jax.models.resnext1d import Block
from clef_jax.ops.residual_block import Geometry, Parameters, geometry, residual_block, suits
from clef_jax.ops.residual_block.backward import backward
from clef_jax.ops.residual_block.forward import forward

# Channels in, middle and out, groups, stride: the structure of the three sizes' blocks.
STRUCTURES = {
    "small-first": (32, 16, 32, 4, 2, False),
    "small-growing": (64, 64, 128, 16, 2, True),
    "small": (64, 32, 64, 8, 1, True),
    "medium": (32, 32, 32, 2, 1, True),
    "medium-growing": (64, 160, 160, 10, 2, True),
    "large": (64, 96, 64, 2, 1, True),
}


def geometry_of(structure, views, samples):
    channels, middle, width, groups, stride, activate = STRUCTURES[structure]
    return Geometry(views, samples, channels, middle, width, groups, 16, stride, activate)


def block_of(shape):
    return Block(
        width=shape.width,
        ratio=shape.middle / shape.width,
        group_width=shape.width // shape.groups,
        kernel_size=shape.taps,
        stride=shape.stride,
        activate_input=shape.activate,
    )


def make_block(structure, views, samples):
    shape = geometry_of(structure, views, samples)
    block = block_of(shape)
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (views, samples, shape.channels))
    params = block.init(keys[1], x)["params"]
    dy = jax.random.normal(keys[2], (views, shape.outputs, shape.width))
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


@pytest.fixture
def short_chunks(monkeypatch):
    """Several chunks, the last of them ragged, though the signal is short."""
    monkeypatch.setattr(geometry, "_CHUNK_BYTES", 1)
    for kernel in (forward, backward):  # A program is kept by its shape, which has no chunks.
        kernel.clear_cache()
    yield
    for kernel in (forward, backward):
        kernel.clear_cache()


def slow(*case):
    return pytest.param(*case, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    "structure, samples",
    [
        slow("medium", 41),
        slow("small-first", 131),
        slow("small-growing", 69),
        slow("small-growing", 128),
        slow("small", 64),
        ("small", 37),
        slow("medium-growing", 67),
        slow("large", 33),
    ],
)
@pytest.mark.usefixtures("short_chunks")
def test_equals_the_layers_and_their_gradients(structure, samples):
    shape, block, params, x, dy = make_block(structure, 128, samples)
    assert shape.chunks > 1
    assert_near(by_kernels(shape)(x, params, dy), by_layers(block)(x, params, dy), 2e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("short_chunks")
def test_the_model_s_block_hands_over_its_parameters_and_shape(monkeypatch):
    """A block takes the branch for TPU, here interpreted and in float32, in several chunks."""
    shape, block, params, x, dy = make_block("small-first", 128, 70)
    expected = by_layers(block)(x, params, dy)
    taken = []

    def interpreted(x, parameters, shape):
        taken.append(shape)
        return residual_block(x, parameters, shape, interpret=True)

    def on_tpu(*arrays, tpu, default):
        return tpu(*arrays)

    monkeypatch.setattr(resnext1d, "suits", lambda *arguments: True)
    monkeypatch.setattr(resnext1d, "residual_block", interpreted)
    monkeypatch.setattr(resnext1d, "lax", types.SimpleNamespace(platform_dependent=on_tpu))
    assert_near(by_layers(block)(x, params, dy), expected, 2e-6)
    assert taken == [shape]


@pytest.mark.slow
def test_adds_up_the_gradients_of_several_tiles():
    shape, block, params, x, dy = make_block("small-first", 256, 36)
    assert_near(by_kernels(shape)(x, params, dy), by_layers(block)(x, params, dy), 2e-6)


@pytest.mark.slow
def test_bfloat16_is_as_near_to_float32_as_the_layers_are():
    shape, block, params, x, dy = make_block("small", 128, 40)
    exact = by_layers(block)(x, params, dy)
    x, dy = x.astype(jnp.bfloat16), dy.astype(jnp.bfloat16)
    narrow = by_layers(block.clone(dtype=jnp.bfloat16))(x, params, dy)
    found = by_kernels(shape)(x, params, dy)
    assert all(g.dtype == jnp.float32 for g in jax.tree.leaves(found[2]))
    for f, n, e in zip(*map(jax.tree.leaves, (found, narrow, exact)), strict=True):
        f, n, e = (np.asarray(a, np.float64) for a in (f, n, e))
        assert np.linalg.norm(f - e) <= 1.2 * np.linalg.norm(n - e)


@pytest.mark.slow
def test_sums_gradients_over_the_devices_of_a_mesh():
    shape, block, params, x, dy = make_block("small-first", 256, 36)
    here = dataclasses.replace(shape, views=128)

    def of_a_device(x, params, dy):
        return pass_through(
            lambda x, p: residual_block(x, as_parameters(p), here, interpret=True), x, params, dy
        )

    rows, all_of_it = PartitionSpec("data"), PartitionSpec()
    sharded = jax.shard_map(
        of_a_device,
        mesh=Mesh(np.array(jax.devices()[:2]), ("data",)),
        in_specs=(rows, all_of_it, rows),
        out_specs=(rows, rows, all_of_it),
    )
    assert_near(jax.jit(sharded)(x, params, dy), by_layers(block)(x, params, dy), 2e-6)


@pytest.mark.parametrize(
    "change",
    [
        {"views": 64},
        {"channels": 24},
        {"channels": 48},
        {"stride": 1},
        {"middle": 64},
        {"samples": 16},
        {"samples": 10**6},
    ],
)
def test_takes_no_shape_that_it_was_not_made_for(change):
    shape = Geometry(128, 313, 64, 32, 64, 8, 16, 2, True)
    assert suits(shape, jnp.bfloat16)
    assert not suits(shape, jnp.float32)
    assert not suits(dataclasses.replace(shape, **change), jnp.bfloat16)


# The longest recordings of clef_small's first block, and of a wider one, by the fast memory of a
# v5p and of those with twice as much: the forward pass keeps more of the one, the backward of the
# other.
FIRST = Geometry(128, 313, 32, 16, 32, 4, 16, 2, False)
WIDER = Geometry(128, 313, 32, 32, 64, 8, 16, 2, True)
LONGEST = [
    ("v5p:2x2x1", "TPU v5", FIRST),
    ("v5p:2x2x1", "TPU v5", WIDER),
    ("v5e:2x2", "TPU v5 lite", FIRST),
    ("v5e:2x2", "TPU v5 lite", WIDER),
    ("v6e:2x2", "TPU v6 lite", FIRST),
]


def longest(shape, kind):
    lengths = range(313, 30_000, 32)
    fitting = [
        t for t in lengths if suits(dataclasses.replace(shape, samples=t), jnp.bfloat16, kind)
    ]
    return dataclasses.replace(shape, samples=fitting[-1])


def test_both_passes_fit_in_the_fast_memory_of_the_device():
    # As the compiler counted: 104 MiB of forward scratch at 13,000 samples, 80.6 in all at 9,000.
    known = functools.partial(dataclasses.replace, FIRST)
    assert not suits(known(samples=13_000), jnp.bfloat16, "TPU v5 lite")
    assert suits(known(samples=9_000), jnp.bfloat16, "TPU v5 lite")
    assert 80.6 * 2**20 < known(samples=9_000).vmem_bytes < 90 * 2**20
    for kind in ("TPU v5", ""):
        assert not suits(known(samples=9_000), jnp.bfloat16, kind)
        assert suits(known(samples=2_500), jnp.bfloat16, kind)
    for kind in ("TPU v4", "TPU7x"):
        assert not suits(FIRST, jnp.bfloat16, kind)


def compile_for(target, shape):
    """Returns what a program of both passes of a block is compiled to."""
    pytest.importorskip("libtpu", reason="libtpu, the TPU's compiler, is not installed")
    topology = topologies.get_topology_desc(platform="tpu", topology_name=target)
    chip = SingleDeviceSharding(topology.devices[0])
    narrow = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.bfloat16)
    x = narrow((shape.views, shape.samples, shape.channels))
    dy = narrow((shape.views, shape.outputs, shape.width))
    wide = jax.ShapeDtypeStruct(x.shape, jnp.float32)
    params = jax.eval_shape(block_of(shape).init, jax.random.key(0), wide)["params"]

    def block(x, params):
        return residual_block(x, as_parameters(params), shape)

    program = jax.jit(
        functools.partial(pass_through, block), in_shardings=chip, out_shardings=chip
    ).lower(x, params, dy)
    return program.compile().as_text()


@pytest.mark.slow
@pytest.mark.parametrize("target", ["v5e:2x2", "v5p:2x2x1", "v6e:2x2"])
@pytest.mark.parametrize("structure", ["small-first", "small-growing"])
def test_compiles_for(structure, target):
    text = compile_for(target, geometry_of(structure, 128, 313))
    assert "residual_block_forward" in text and "residual_block_backward" in text
    assert " convolution(" not in text


@pytest.mark.slow
@pytest.mark.parametrize(("target", "kind", "shape"), LONGEST)
def test_the_longest_that_suits_compiles(target, kind, shape):
    compile_for(target, longest(shape, kind))
