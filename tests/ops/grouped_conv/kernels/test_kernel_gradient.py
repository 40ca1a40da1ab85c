"""The kernel gradient's Pallas kernel against sums written out in float64 numpy."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import topologies
from jax.sharding import PartitionSpec as P
from jax.sharding import SingleDeviceSharding

from clef_jax import hosts
from clef_jax.ops.grouped_conv.kernels import kernel_gradient
from tests.ops.grouped_conv.kernels.layers import layers
from tests.ops.grouped_conv.test_conv import example, oracle


def check(channels, groups, stride, samples, taps=16, batch=2, relative=2e-6):
    x, kernel, dy = example(channels, groups, samples, stride, taps=taps, batch=batch)
    _, _, expected = oracle(x, kernel, dy, stride, groups)
    x, kernel, dy = (a.astype(np.float32) for a in (x, kernel, dy))
    found = jax.jit(
        lambda x, kernel, dy: kernel_gradient(x, kernel, dy, stride, groups, interpret=True)
    )(x, kernel, dy)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=relative * np.abs(expected).max())


@pytest.mark.parametrize(
    ("channels", "groups", "stride"),
    [
        (4, 8, 2),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in ((4, 8, 1), (16, 3, 1), (16, 3, 2), (48, 2, 1), (48, 2, 2))
        ),
    ],
)
def test_the_widths_of_the_three_sizes(channels, groups, stride):
    check(channels, groups, stride, 101)


@pytest.mark.slow
@pytest.mark.parametrize("layer", layers(), ids=str)
def test_every_layer_of_the_three_sizes(layer):
    check(*layer)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    "samples", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (20, 39))]
)
def test_recordings_shorter_than_a_step_or_a_few_long(samples, stride):
    check(8, 2, stride, samples)


@pytest.mark.parametrize(
    ("taps", "stride"),
    [
        (9, 4),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in ((1, 1), (5, 2), (24, 8), (33, 1))
        ),
    ],
)
def test_other_kernels_and_strides(taps, stride):
    check(16, 2, stride, 75, taps=taps)


@pytest.mark.slow
@pytest.mark.parametrize("stride", [1, 2])
def test_recordings_of_several_tiles(stride):
    check(16, 2, stride, 801, batch=128)


@pytest.mark.parametrize(
    "batch", [130, *(pytest.param(n, marks=pytest.mark.slow) for n in (64, 127))]
)
def test_views_that_fill_half_the_lanes_and_more_than_them(batch):
    check(24, 4, 1, 21, batch=batch)


@pytest.mark.parametrize("stride", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_swish_before_the_convolution(stride):
    x, kernel, dy = example(16, 2, 75, stride)
    _, _, expected = oracle(x / (1 + np.exp(-x)), kernel, dy, stride, 2)
    x, kernel, dy = (a.astype(np.float32) for a in (x, kernel, dy))
    found = kernel_gradient(x, kernel, dy, stride, 2, activate=True, interpret=True)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


def test_bfloat16_is_summed_in_float32():
    """Rounded operands, float32 sums of thousands: sums in bfloat16 would be 1,000 times off."""
    arrays = example(16, 2, 601, 1, batch=4)
    x, kernel, dy = (jnp.asarray(a, jnp.bfloat16) for a in arrays)
    _, _, expected = oracle(*(np.asarray(a, np.float64) for a in (x, kernel, dy)), 1, 2)
    found = kernel_gradient(x, kernel.astype(jnp.float32), dy, 1, 2, interpret=True)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    narrow = kernel_gradient(x, kernel, dy, 1, 2, interpret=True)
    np.testing.assert_array_equal(narrow, found.astype(jnp.bfloat16))


def shapes(channels, groups, stride, samples, views=128, dtype=jnp.bfloat16):
    width = channels * groups
    return (
        jax.ShapeDtypeStruct((views, samples, width), dtype),
        jax.ShapeDtypeStruct((16, channels, width), jnp.float32),
        jax.ShapeDtypeStruct((views, -(-samples // stride), width), dtype),
    )


def test_its_result_varies_over_devices_as_its_input_does():
    x, kernel, dy = shapes(4, 8, 2, 50, views=512)

    def summed(x, kernel, dy):
        kernel = jax.lax.pcast(kernel, "data", to="varying")
        return jax.lax.psum(kernel_gradient(x, kernel, dy, 2, 8), "data")

    devices = jax.shard_map(
        summed, mesh=hosts.data_mesh(), in_specs=(P("data"), P(), P("data")), out_specs=P()
    )
    lowered = jax.jit(devices).trace(x, kernel, dy).lower(lowering_platforms=("tpu",))
    assert "tpu_custom_call" in lowered.as_text()


def compile_for(target, layer, views=128, dtype=jnp.bfloat16):
    pytest.importorskip("libtpu", reason="libtpu, the TPU's compiler, is not installed")
    topology = topologies.get_topology_desc(platform="tpu", topology_name=target)
    chip = SingleDeviceSharding(topology.devices[0])
    _, groups, stride, _ = layer
    lowered = jax.jit(
        # As the model has it, which takes more memory than without.
        lambda x, kernel, dy: kernel_gradient(x, kernel, dy, stride, groups, activate=True),
        in_shardings=chip,
        out_shardings=chip,
    ).lower(*shapes(*layer, views=views, dtype=dtype))
    with warnings.catch_warnings():
        # A cache of compiled programs is not read for a device that is not here.
        warnings.filterwarnings("ignore", "Error reading persistent compilation cache")
        lowered.compile()


TARGETS = ["v5e:2x2", "v5p:2x2x1", "v6e:2x2"]


@pytest.mark.parametrize("target", TARGETS)
def test_it_compiles_for(target):
    compile_for(target, (16, 10, 1, 313))
    compile_for(target, (4, 8, 2, 157), views=32)
    # Short recordings of wide groups, whose sums would not fit if as many groups as tiles were.
    compile_for(target, (48, 64, 1, 5))


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layer", layers(), ids=str)
def test_every_layer_compiles_for(layer, target):
    compile_for(target, layer)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layer", [(48, 4, 2, 1250), (4, 8, 1, 157)], ids=str)
def test_float32_compiles_for(layer, target):
    compile_for(target, layer, dtype=jnp.float32)
