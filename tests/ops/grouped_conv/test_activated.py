"""Swish, convolution and bias at once against the three in turn, and against sums in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from clef_jax import hosts
from clef_jax.ops.activation import swish
from clef_jax.ops.broadcast import add_bias
from clef_jax.ops.grouped_conv import activated_conv, grouped_conv
from tests.ops.grouped_conv.test_conv import example, oracle


def in_turn(x, kernel, bias, *, stride, groups):
    return add_bias(grouped_conv(swish(x), kernel, stride=stride, groups=groups), bias)


def arrays_of(views, samples=50, stride=2, dtype=jnp.float32):
    x, kernel, dy = example(4, 8, samples, stride, batch=views)
    kernel, bias = jnp.asarray(kernel, jnp.float32), jnp.linspace(-1, 1, 32)
    return jnp.asarray(x, dtype), kernel, bias, jnp.asarray(dy, dtype)


def with_gradients(op, stride=2):
    def compute(x, kernel, bias, dy):
        y, pull = jax.vjp(lambda *a: op(*a, stride=stride, groups=8), x, kernel, bias)
        return y, *pull(dy)

    return compute


@pytest.mark.parametrize("views", [3, 64])
def test_it_is_what_its_parts_are_in_float64(views):
    arrays = arrays_of(views)
    x, kernel, bias, dy = (np.asarray(a, np.float64) for a in arrays)
    sigmoid = 1 / (1 + np.exp(-x))
    y, da, dkernel = oracle(x * sigmoid, kernel, dy, 2, 8)
    dx = da * (sigmoid + x * sigmoid * (1 - sigmoid))
    wanted = y + bias, dx, dkernel, dy.sum(axis=(0, 1))
    for a, b in zip(jax.jit(with_gradients(activated_conv))(*arrays), wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_off_tpus_it_is_its_parts_in_turn_to_the_bit(dtype):
    arrays = arrays_of(64, dtype=dtype)
    found, wanted = (jax.jit(with_gradients(op))(*arrays) for op in (activated_conv, in_turn))
    for a, b in zip(found, wanted, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_a_program_for_tpu_has_the_kernels_and_others_have_none():
    traced = jax.jit(with_gradients(activated_conv)).trace(*arrays_of(64))
    programs = {p: traced.lower(lowering_platforms=(p,)).as_text() for p in ("cpu", "tpu", "cuda")}
    names = {p: text.count('kernel_name = "toeplitz_product"') for p, text in programs.items()}
    # The second is the input gradient.
    assert names["tpu"] >= 2
    assert names["cpu"] == names["cuda"] == 0


def test_gradients_of_replicated_parameters_are_summed_over_devices():
    x, kernel, bias, dy = arrays_of(4 * 64)

    def loss(parameters, x, dy):
        y = activated_conv(x, *parameters, stride=2, groups=8)
        return jax.lax.psum(jnp.sum(y * dy), "data")

    devices = jax.shard_map(
        jax.grad(loss),
        mesh=hosts.data_mesh(),
        in_specs=(P(), P("data"), P("data")),
        out_specs=P(),
    )
    wanted = with_gradients(in_turn)(x, kernel, bias, dy)[2:]
    traced = jax.jit(devices).trace((kernel, bias), x, dy)
    assert "toeplitz_product" in traced.lower(lowering_platforms=("tpu",)).as_text()
    for a, b in zip(jax.jit(devices)((kernel, bias), x, dy), wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())
