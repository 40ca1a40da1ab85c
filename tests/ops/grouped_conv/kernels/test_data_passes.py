"""The kernels of the convolution and its input gradient against sums written out in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import topologies
from jax.sharding import PartitionSpec as P
from jax.sharding import SingleDeviceSharding

from clef_jax import hosts
from clef_jax.ops.grouped_conv import kernels
from tests.ops.grouped_conv.kernels.layers import layers
from tests.ops.grouped_conv.test_conv import example, oracle


def passes(stride, groups, interpret=True):
    """Returns (x, kernel, bias, dy) -> all that the kernels compute."""

    def compute(x, kernel, bias, dy):
        options = dict(stride=stride, groups=groups, interpret=interpret)
        return (
            kernels.forward(x, kernel, **options),
            kernels.input_gradient(x, kernel, dy, **options),
            kernels.forward(x, kernel, bias=bias, activate=True, **options),
            *kernels.activated_input_gradient(x, kernel, dy, **options),
        )

    return jax.jit(compute)


def expected(x, kernel, bias, dy, stride, groups):
    """Returns the same in float64."""
    sigmoid = 1 / (1 + np.exp(-x))
    y, dx, _ = oracle(x, kernel, dy, stride, groups)
    activated, _, _ = oracle(x * sigmoid, kernel, dy, stride, groups)
    slope = sigmoid + x * sigmoid * (1 - sigmoid)
    return y, dx, activated + bias, dx * slope, dy.sum(axis=(0, 1))


def arrays_of(channels, groups, samples, stride, taps=16, batch=2):
    x, kernel, dy = example(channels, groups, samples, stride, taps=taps, batch=batch)
    if groups == 1:
        # As `example` has it, one group is the stem, of more outputs than inputs.
        kernel, dy = kernel[..., :channels], dy[..., :channels]
    bias = np.random.default_rng(0).normal(size=channels * groups)
    return x, kernel, bias, dy


def check(channels, groups, stride, samples, taps=16, batch=2, relative=2e-6):
    arrays = arrays_of(channels, groups, samples, stride, taps, batch)
    found = passes(stride, groups)(*(a.astype(np.float32) for a in arrays))
    for a, b in zip(found, expected(*arrays, stride, groups), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=relative * np.abs(b).max())


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


@pytest.mark.parametrize(
    ("samples", "stride"),
    [
        (1, 1),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in ((2, 2), (7, 2), (40, 1))),
    ],
)
def test_recordings_shorter_than_the_taps_or_of_few_blocks(samples, stride):
    check(8, 2, stride, samples)


@pytest.mark.parametrize(
    ("taps", "stride"),
    [(9, 4), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((1, 1), (16, 3)))],
)
def test_other_kernels_and_strides(taps, stride):
    check(16, 1, stride, 75, taps=taps)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [64, 127, 130, 256])
def test_views_that_fill_half_the_lanes_and_more_than_them(batch):
    check(16, 2, 1, 21, batch=batch)


@pytest.mark.parametrize("stride", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_bfloat16_is_summed_in_float32(stride):
    arrays = [jnp.asarray(a, jnp.bfloat16) for a in arrays_of(16, 2, 75, stride)]
    wanted = expected(*(np.asarray(a, np.float64) for a in arrays), stride, 2)
    found = passes(stride, 2)(*arrays)
    assert [a.dtype for a in found] == [jnp.bfloat16] * 4 + [jnp.float32]
    # Half of a last digit; where swish(x) is rounded before the sums, twice that of the largest.
    for a, b, half_digits in zip(found, wanted, (1, 1, 2, 1, 0), strict=True):
        np.testing.assert_allclose(
            np.asarray(a, np.float64),
            b,
            rtol=2**-8 if half_digits else 0,
            atol=max(2e-6, (half_digits - 1) * 2**-9) * np.abs(b).max(),
        )


def test_what_the_kernels_were_not_made_for_is_left_to_others():
    def suits(views=128, dtype=jnp.bfloat16, taps=16, channels=4, groups=8, stride=2, kind=""):
        width = channels * groups
        shapes = (views, 50, width), dtype, (taps, channels, width)
        return kernels.suits(*shapes, stride, groups, kind)

    assert suits() and suits(dtype=jnp.float32) and suits(channels=48, groups=3)
    assert suits(views=64) and not suits(views=63)
    assert not suits(dtype=jnp.float64)
    assert not suits(groups=6)
    assert not suits(taps=17)
    assert not suits(taps=1)
    assert not suits(channels=64, groups=2) and not suits(channels=256, groups=1)
    assert suits(kind="TPU v5 lite") and suits(kind="TPU v5") and not suits(kind="TPU v4")
    assert not kernels.suits((128, 5000, 1), jnp.bfloat16, (16, 1, 32), 2, 1)


def shapes(channels, groups, stride, samples, views=128, dtype=jnp.bfloat16):
    width = channels * groups
    return (
        jax.ShapeDtypeStruct((views, samples, width), dtype),
        jax.ShapeDtypeStruct((16, channels, width), dtype),
        jax.ShapeDtypeStruct((width,), jnp.float32),
        jax.ShapeDtypeStruct((views, -(-samples // stride), width), dtype),
    )


def test_results_vary_over_devices_as_their_inputs_do():
    def summed(x, kernel, bias, dy):
        kernel, bias = jax.lax.pcast((kernel, bias), "data", to="varying")
        return jax.lax.psum(passes(2, 8, interpret=False)(x, kernel, bias, dy), "data")

    devices = jax.shard_map(
        summed,
        mesh=hosts.data_mesh(),
        in_specs=(P("data"), P(), P(), P("data")),
        out_specs=P(),
    )
    traced = jax.jit(devices).trace(*shapes(4, 8, 2, 50, views=512))
    lowered = traced.lower(lowering_platforms=("tpu",))
    assert lowered.as_text().count("tpu_custom_call") == 4


def compile_for(target, layer, **others):
    pytest.importorskip("libtpu", reason="libtpu, the TPU's compiler, is not installed")
    topology = topologies.get_topology_desc(platform="tpu", topology_name=target)
    chip = SingleDeviceSharding(topology.devices[0])
    _, groups, stride, _ = layer
    jax.jit(passes(stride, groups, interpret=False), in_shardings=chip, out_shardings=chip).lower(
        *shapes(*layer, **others)
    ).compile()


TARGETS = ["v5e:2x2", "v5p:2x2x1", "v6e:2x2"]


@pytest.mark.parametrize("target", TARGETS)
def test_they_compile_for(target):
    compile_for(target, (16, 10, 1, 313))


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layer", layers(), ids=str)
def test_every_layer_compiles_for(layer, target):
    compile_for(target, layer, views=512 if layer[0] == 4 else 128)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layer", [(48, 4, 2, 2500), (4, 8, 1, 157), (16, 4, 1, 20)], ids=str)
def test_float32_and_few_views_compile_for(layer, target):
    compile_for(target, layer, dtype=jnp.float32)
    compile_for(target, layer, views=100)


@pytest.mark.slow
def test_holters_compile():
    compile_for("v5e:2x2", (16, 4, 2, 100_000), views=64)
