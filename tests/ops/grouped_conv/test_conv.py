"""Every algorithm of the grouped convolution against sums written out in float64 numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from clef_jax import hosts
from clef_jax.models.resnext1d_config import SIZES
from clef_jax.ops.grouped_conv import grouped_conv
from clef_jax.ops.grouped_conv.choice import choose
from clef_jax.ops.grouped_conv.layers import Layer
from clef_jax.ops.grouped_conv.passes import Algorithm, forward, input_gradient, kernel_gradient
from clef_jax.ops.grouped_conv.rules import rule

ALGORITHMS = [
    Algorithm("native"),
    Algorithm("pack"),
    *(Algorithm("conv", block) for block in (1, 2, 4, 8)),
    *(Algorithm("matmul", block) for block in (1, 4, 8, 16)),
    *(Algorithm("fourier", block) for block in (16, 24, 32)),
]


def layers():
    """Every distinct (channels of a group, groups, stride) of the three sizes' grouped layers."""
    found = {(1, 1, 2): None}
    for config in SIZES:
        for width, blocks in zip(config.stage_widths, config.stage_blocks, strict=True):
            groups = width // config.group_width
            for stride in (2, 1)[: 1 + (blocks > 1)]:
                found[int(width * config.ratio) // groups, groups, stride] = None
    return list(found)


def example(channels, groups, samples, stride, taps=16, batch=2):
    rng = np.random.default_rng(samples)
    width = channels * groups if groups > 1 else 32
    x = rng.normal(size=(batch, samples, channels * groups))
    kernel = rng.normal(size=(taps, channels, width)) / (taps * channels) ** 0.5
    dy = rng.normal(size=(batch, -(-samples // stride), width))
    return x, kernel, dy


def oracle(x, kernel, dy, stride, groups):
    """The convolution and both gradients of sum(y * dy), one tap at a time."""
    taps, samples, outputs = len(kernel), x.shape[1], dy.shape[1]
    pad = max(0, (outputs - 1) * stride + taps - samples)
    left = pad // 2
    split = [a.reshape(*a.shape[:-1], groups, -1) for a in (np.pad(
        x, ((0, 0), (left, pad - left), (0, 0))), dy)]  # fmt: skip
    padded, dy = split
    w = kernel.reshape(taps, kernel.shape[1], groups, -1)
    y, dpadded, dw = np.zeros_like(dy), np.zeros_like(padded), np.zeros_like(w)
    for tap in range(taps):
        seen = slice(tap, tap + (outputs - 1) * stride + 1, stride)
        y += np.einsum("ntgc,cgq->ntgq", padded[:, seen], w[tap])
        dpadded[:, seen] += np.einsum("ntgq,cgq->ntgc", dy, w[tap])
        dw[tap] = np.einsum("ntgc,ntgq->cgq", padded[:, seen], dy)
    dx = dpadded[:, left : left + samples].reshape(x.shape)
    return y.reshape(*y.shape[:2], -1), dx, dw.reshape(kernel.shape)


def assert_near(found, expected, relative):
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=relative * max(np.abs(b).max(), 1e-30))


def check(layer, passes, samples, relative=1e-5, batch=2):
    channels, groups, stride = layer
    arrays = example(channels, groups, samples, stride, batch=batch)
    expected = oracle(*arrays, stride, groups)

    @jax.jit
    def run(x, kernel, dy):
        return (
            forward(x, kernel, stride, groups, passes[0]),
            input_gradient(x, kernel, dy, stride, groups, passes[1]),
            kernel_gradient(x, kernel, dy, stride, groups, passes[2]),
        )

    assert_near(run(*(a.astype(np.float32) for a in arrays)), expected, relative)


def every_fifth(cases):
    """The others are proofs that take minutes."""
    return [
        case if place % 5 == 0 else pytest.param(case, marks=pytest.mark.slow)
        for place, case in enumerate(cases)
    ]


@pytest.mark.parametrize("layer", every_fifth(layers()))
def test_the_chosen_algorithms_on_every_layer_of_the_three_sizes(layer):
    channels, groups, stride = layer
    named = Layer(channels, groups, stride, 16)
    check(layer, choose("cpu", "float32", named, 10_000), 37, batch=1)


@pytest.mark.slow
@pytest.mark.parametrize("layer", layers())
def test_the_algorithms_for_few_outputs_on_every_layer_of_the_three_sizes(layer):
    channels, groups, stride = layer
    check(layer, choose("cpu", "float32", Layer(channels, groups, stride, 16), 1), 37, batch=1)


@pytest.mark.slow
@pytest.mark.parametrize("layer", layers())
@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_the_rule_for_accelerators_on_every_layer_of_the_three_sizes(platform, layer):
    channels, groups, stride = layer
    check(layer, rule(platform, Layer(channels, groups, stride, 16), 10_000), 37, batch=1)


@pytest.mark.slow
@pytest.mark.parametrize("layer", layers())
def test_packed_groups_on_every_layer_of_the_three_sizes(layer):
    check(layer, [Algorithm("pack")] * 3, 37, batch=1)


@pytest.mark.parametrize(
    "algorithm",
    [
        algorithm
        if str(algorithm) in ("native", "pack", "conv:2", "matmul:4", "fourier:24")
        else pytest.param(algorithm, marks=pytest.mark.slow)
        for algorithm in ALGORITHMS
    ],
    ids=str,
)
@pytest.mark.parametrize("layer", [(4, 8, 1), (4, 8, 2)])
@pytest.mark.parametrize("samples", [pytest.param(1, marks=pytest.mark.slow), 83])
def test_every_algorithm_at_odd_lengths(algorithm, layer, samples):
    check(layer, [algorithm] * 3, samples)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=str)
@pytest.mark.parametrize("layer", layers())
def test_every_algorithm_on_every_layer(algorithm, layer):
    for samples in (40, 157):
        check(layer, [algorithm] * 3, samples)


@pytest.mark.parametrize(
    "taps", [*(pytest.param(n, marks=pytest.mark.slow) for n in (1, 5, 33)), 2]
)
def test_fourier_blocks_shorter_than_the_kernel_and_odd_taps(taps):
    arrays = example(8, 3, 71, 1, taps=taps)
    expected = oracle(*arrays, 1, 3)
    algorithm = Algorithm("fourier", 4)
    x, kernel, dy = (a.astype(np.float32) for a in arrays)
    found = (
        forward(x, kernel, 1, 3, algorithm),
        input_gradient(x, kernel, dy, 1, 3, algorithm),
        kernel_gradient(x, kernel, dy, 1, 3, algorithm),
    )
    assert_near(found, expected, 1e-5)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("channels", "groups"), [(4, 8), pytest.param(16, 3, marks=pytest.mark.slow)]
)
def test_float64_to_1e_12(stride, channels, groups, x64):
    arrays = example(channels, groups, 61, stride, batch=10)
    expected = oracle(*arrays, stride, groups)
    y, pull = jax.vjp(lambda x, k: grouped_conv(x, k, stride=stride, groups=groups), *arrays[:2])
    assert_near((y, *pull(jnp.asarray(arrays[2]))), expected, 1e-12)


@pytest.mark.parametrize(
    "which", ["cpu", pytest.param("tpu", marks=pytest.mark.slow), "cuda", "native"]
)
def test_bfloat16_sums_in_float32(which):
    """Rounded operands, float32 sums: the kernel's gradient, a sum of thousands, shows it."""
    arrays = example(16, 4, 601, 1, batch=4)
    x, kernel, dy = (jnp.asarray(a, jnp.bfloat16) for a in arrays)
    expected = oracle(*(np.asarray(a, np.float64) for a in (x, kernel, dy)), 1, 4)
    native = [Algorithm("native")] * 3
    passes = native if which == "native" else rule(which, Layer(16, 4, 1, 16), 2404)
    found = (
        forward(x, kernel, 1, 4, passes[0]),
        input_gradient(x, kernel, dy, 1, 4, passes[1]),
    )
    assert_near([np.asarray(a, np.float64) for a in found], expected[:2], 4e-3)
    gradient = kernel_gradient(x, kernel.astype(jnp.float32), dy, 1, 4, passes[2])
    assert gradient.dtype == jnp.float32
    assert_near([gradient], expected[2:], 1e-5)


@pytest.mark.parametrize("form", ["native", "pack"])
def test_a_kernel_of_bfloat16_has_a_gradient_rounded_once(form):
    """What GPUs are asked for: within half a unit in the last place of the whole sum."""
    arrays = example(16, 4, 601, 1, batch=4)
    x, kernel, dy = (jnp.asarray(a, jnp.bfloat16) for a in arrays)
    *_, expected = oracle(*(np.asarray(a, np.float64) for a in (x, kernel, dy)), 1, 4)
    gradient = kernel_gradient(x, kernel, dy, 1, 4, Algorithm(form))
    assert gradient.dtype == jnp.bfloat16
    half_units = np.abs(np.asarray(gradient, np.float64) - expected) / np.abs(expected) * 2**8
    # A sum next to 0 has its own error in float32 beside that of rounding.
    assert np.quantile(half_units, 0.999) <= 1.001


def test_gradients_of_replicated_kernels_are_summed_over_devices(x64):
    x, kernel, dy = example(4, 8, 50, 2, batch=8)
    _, _, expected = oracle(x, kernel, dy, 2, 8)

    def loss(kernel, x, dy):
        y = grouped_conv(x, kernel, stride=2, groups=8)
        return jax.lax.psum(jnp.sum(y * dy), "data")

    gradient = jax.jit(
        jax.shard_map(
            jax.grad(loss),
            mesh=hosts.data_mesh(),
            in_specs=(P(), P("data"), P("data")),
            out_specs=P(),
        )
    )
    assert_near([gradient(kernel, x, dy)], [expected], 1e-12)


def test_vmap_and_remat(x64):
    x, kernel, _ = example(4, 8, 50, 1, batch=6)
    whole = grouped_conv(x, kernel, groups=8)
    parts = jax.vmap(lambda part: grouped_conv(part, kernel, groups=8))(x.reshape(3, 2, 50, -1))
    np.testing.assert_allclose(parts.reshape(whole.shape), whole, rtol=1e-12)

    def loss(kernel):
        return jnp.sum(grouped_conv(x, kernel, groups=8) ** 2)

    np.testing.assert_allclose(
        jax.grad(jax.checkpoint(loss))(kernel), jax.grad(loss)(kernel), rtol=1e-12
    )


@pytest.mark.parametrize("text", ["native", "pack", "kernel", "conv:2", "matmul:16", "fourier:24"])
def test_algorithms_are_read_as_they_are_written(text):
    assert str(Algorithm.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["native:2", "pack:4", "conv", "fourier", "fft:2", "conv:0", "conv:x"]
)
def test_misspelt_algorithms_are_refused(text):
    with pytest.raises(ValueError, match="algorithm|positive"):
        Algorithm.parse(text)
