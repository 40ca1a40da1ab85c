"""Which algorithms a program holds: by the platform it is lowered for, and by what is in use."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clef_jax.models.resnext1d_config import SIZES
from clef_jax.ops.grouped_conv import choice, grouped_conv, kernels
from clef_jax.ops.grouped_conv.choice import choose
from clef_jax.ops.grouped_conv.layers import Layer
from clef_jax.ops.grouped_conv.passes import Passes
from clef_jax.ops.grouped_conv.rules import PLAIN, rule
from clef_jax.ops.grouped_conv.table import TABLE

LAYER = Layer(4, 8, 1, 16)


def lowered(platform, channels=4, groups=8):
    """A layer and its gradients, lowered by this process for any hardware."""
    x, kernel = jnp.ones((4, 313, channels * groups)), jnp.ones((16, channels, channels * groups))

    def loss(x, kernel):
        return (grouped_conv(x, kernel, groups=groups) ** 2).sum()

    trace = jax.jit(jax.grad(loss, argnums=(0, 1))).trace(x, kernel)
    return trace.lower(lowering_platforms=(platform,)).as_text()


def convolutions(text):
    """The groups and the kernels' shapes of a lowered program's convolutions."""
    return re.findall(
        r"stablehlo\.convolution.*?feature_group_count = (\d+).*?, tensor<([\dx]+)xf32>\)", text
    )


def test_a_program_has_the_algorithms_of_the_platform_it_is_lowered_for():
    for layer in ((4, 8), (16, 10), (48, 4)):
        channels, groups = layer
        plain = convolutions(lowered("METAL", *layer))  # A platform that we know nothing of.
        assert (str(groups), f"16x{channels}x{channels * groups}") in plain
        by_platform = {p: convolutions(lowered(p, *layer)) for p in choice.PLATFORMS}
        for platform, found in by_platform.items():
            passes = choose(platform, "float32", Layer(channels, groups, 1, 16), 1252)
            assert (found == plain) == (passes == PLAIN)
        assert by_platform["rocm"] == by_platform["cuda"] != by_platform["cpu"]
    # Packed, 8 groups of 4 channels are one of 32.
    assert convolutions(lowered("cuda"))[0] == ("1", "16x32x32")


@pytest.mark.parametrize("channels", [4, 16])
def test_gpus_round_a_kernels_gradient_of_narrow_arrays_and_nothing_else_does(channels):
    x = jax.ShapeDtypeStruct((2, 313, 8 * channels), np.dtype("bfloat16"))
    kernel = jax.ShapeDtypeStruct((16, channels, 8 * channels), np.float32)

    def run(x, kernel, dy):
        return jax.vjp(lambda k: grouped_conv(x, k, groups=8), kernel)[1](dy)

    for platform in choice.PLATFORMS:
        text = jax.jit(run).trace(x, kernel, x).lower(lowering_platforms=(platform,)).as_text()
        rounds = re.search(r"stablehlo.convolution.*-> tensor<[\dx]*bf16>", text) is not None
        assert rounds == (platform in ("cuda", "rocm")), platform


def test_every_size_has_other_algorithms_on_every_kind_of_hardware():
    for config in SIZES:
        layers = {convolution.layer for convolution in config.convolutions(5000)}
        cpu, tpu, cuda, rocm = (
            [choose(platform, "float32", layer, 10_000) for layer in layers]
            for platform in choice.PLATFORMS
        )
        assert cpu != tpu != cuda != cpu and rocm == cuda


def test_a_table_of_a_kind_of_device_comes_before_its_platforms(monkeypatch):
    tables = {"tpu": ["conv:2"] * 3, "tpu TPU v6 lite": ["pack"] * 3}
    for key, entry in tables.items():
        monkeypatch.setitem(TABLE, key, {"float32": {str(LAYER): entry}})
    for kind, expected in (("TPU v6 lite", "pack"), ("TPU v5 lite", "conv:2"), ("", "conv:2")):
        found = choose("tpu", "float32", LAYER, 10_000, device_kind=kind)
        assert found == Passes.parse(expected)
    usual = rule("tpu", LAYER, 10_000)
    assert choose("tpu", "bfloat16", LAYER, 10_000, device_kind="TPU v6 lite") == usual


def test_algorithms_in_use_are_those_of_every_platform_and_leave_nothing_behind():
    before = lowered("tpu")
    with choice.using(PLAIN):
        plain = {lowered(platform) for platform in ("cpu", "tpu", "cuda")}
    (text,) = plain
    assert ("8", "16x4x32") in convolutions(text)
    assert lowered("tpu") == before != text


def test_a_table_in_use_has_its_layers_and_no_others():
    table = {str(LAYER): ["conv:2", "native", "pack"]}
    other = LAYER._replace(stride=2)
    with choice.using(table):
        for platform in choice.PLATFORMS:
            found = choose(platform, "float32", LAYER, 10_000)
            assert [str(a) for a in found] == table[str(LAYER)]
            # A single view is no batch; and a table says nothing of other layers.
            assert choose(platform, "float32", LAYER, 10) == rule(platform, LAYER, 10)
            inside = choose(platform, "float32", other, 10_000)
    assert inside == choose(platform, "float32", other, 10_000)


def test_a_function_jitted_before_is_traced_anew_for_other_algorithms():
    x, kernel = np.ones((2, 313, 32), np.float32), np.ones((16, 4, 32), np.float32)
    traced = []

    @jax.jit
    def run(x, kernel):
        traced.append(str(jax.make_jaxpr(lambda *a: grouped_conv(*a, groups=8))(x, kernel)))
        return grouped_conv(x, kernel, groups=8)

    expected = run(x, kernel)
    with choice.using(PLAIN):
        np.testing.assert_allclose(run(x, kernel), expected, rtol=1e-5)
    with choice.using({str(LAYER): ["pack"] * 3}):
        np.testing.assert_allclose(run(x, kernel), expected, rtol=1e-5)
    run(x, kernel)
    assert len(set(traced)) == len(traced) == 3


def test_misspelt_algorithms_and_missing_passes_are_refused():
    for entry in (["conv:0"] * 3, ["native"] * 2, ["fft:2"]):
        with pytest.raises(ValueError, match="positive|two|2 algorithms|not an algorithm"):
            choice.using({str(LAYER): entry})


def test_kernels_are_chosen_only_where_they_take_the_arrays():
    with choice.using({str(LAYER): ["kernel", "kernel", "conv:2"]}):
        assert choose("tpu", "bfloat16", LAYER, 10_000, kernels=True) == Passes.parse(
            "kernel", "kernel", "conv:2"
        )
        usual = rule("tpu", LAYER, 10_000)
        found = choose("tpu", "bfloat16", LAYER, 10_000, kernels=False)
        assert found[:2] == usual[:2] and str(found[2]) == "conv:2"
    assert rule("tpu", LAYER, 10_000, kernels=True) == Passes.parse("kernel")
    for platform in ("cpu", "cuda", "rocm"):
        assert rule(platform, LAYER, 10_000, kernels=True) == rule(platform, LAYER, 10_000)
    assert not kernels.suits((3, 313, 32), jnp.float64, (16, 4, 32), 1, 8)


def test_a_table_with_kernels_changes_no_platform_that_has_none():
    x, kernel = jnp.ones((128, 40, 32)), jnp.ones((16, 4, 32))

    def loss(x, kernel):
        return (grouped_conv(x, kernel, groups=8) ** 2).sum()

    def program(platform):
        trace = jax.jit(jax.grad(loss, argnums=(0, 1))).trace(x, kernel)
        return trace.lower(lowering_platforms=(platform,)).as_text()

    usual = [program(platform) for platform in ("cpu", "cuda", "rocm")]
    with choice.using({str(LAYER): ["kernel"] * 3}):
        assert [program(platform) for platform in ("cpu", "cuda", "rocm")] == usual


def test_a_program_for_several_platforms_at_once_is_exported_and_runs():
    x = np.random.default_rng(0).normal(size=(2, 313, 32)).astype(np.float32)
    kernel = np.random.default_rng(1).normal(size=(16, 4, 32)).astype(np.float32)

    @jax.jit
    def gradient(x, kernel):
        return jax.grad(lambda *a: (grouped_conv(*a, groups=8) ** 2).sum(), argnums=(0, 1))(
            x, kernel
        )

    exported = jax.export.export(gradient, platforms=("cpu", "tpu", "cuda"))(x, kernel)
    assert exported.platforms == ("cpu", "tpu", "cuda")
    for found, expected in zip(exported.call(x, kernel), gradient(x, kernel), strict=True):
        np.testing.assert_array_equal(found, expected)
