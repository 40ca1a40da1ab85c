"""The encoder against a PyTorch transcription of the network."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax import tree_util

from clef_jax.models import build_model, create_model, get_config, resnext1d
from tests.oracles.torch_resnext1d import TorchResNeXt1D, jax_params
from tests.parameters import drawn

LIVE_PARAMETERS = {"clef_small": 443_184, "clef_medium": 30_587_632, "clef_large": 296_301_312}


def shrunk(name, in_channels=1):
    """Every distinct kind of block of one size, once: first of all, first of a stage, others."""
    config = get_config(name, in_channels=in_channels)
    widths = config.stage_widths[:2] + config.stage_widths[3:4]
    return dataclasses.replace(config, stage_widths=widths, stage_blocks=(2, 1, 2))


def torch_and_jax(config, samples, dtype, batch=2):
    torch.manual_seed(0)
    oracle = TorchResNeXt1D(config).to(torch.float64 if dtype == np.float64 else torch.float32)
    shape = (batch, samples, config.in_channels)
    x = np.random.default_rng(1).normal(size=shape).astype(dtype)
    with torch.no_grad():
        expected = oracle(torch.from_numpy(x).transpose(1, 2)).numpy()
    model = build_model(config, dtype=dtype)
    return expected, jax.jit(model.apply)({"params": jax_params(oracle)}, x)


@pytest.mark.parametrize(
    "name",
    [
        "clef_small",
        pytest.param("clef_medium", marks=pytest.mark.slow),
        pytest.param("clef_large", marks=pytest.mark.slow),
    ],
)
def test_parameter_counts(name):
    model = create_model(name)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 100, 1)))["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == LIVE_PARAMETERS[name]


@pytest.mark.parametrize(
    ("samples", "name"),
    [
        (1000, "clef_small"),
        (1, "clef_medium"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                (1000, "clef_medium"),
                (1000, "clef_large"),
                (1, "clef_small"),
                (1, "clef_large"),
            )
        ),
    ],
)
def test_block_types_of_every_size_equal_torch(name, samples):
    expected, actual = torch_and_jax(shrunk(name), samples, np.float32)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    "name",
    [
        "clef_medium",
        pytest.param("clef_small", marks=pytest.mark.slow),
        pytest.param("clef_large", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("samples", [313])
def test_block_types_of_every_size_equal_torch_in_float64(name, samples, x64):
    expected, actual = torch_and_jax(shrunk(name, in_channels=3), samples, np.float64)
    assert actual.dtype == np.float64
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize(("in_channels", "samples"), [(1, 4999), (12, 5000)])
def test_whole_small_equals_torch(in_channels, samples):
    config = get_config("clef_small", in_channels=in_channels)
    expected, actual = torch_and_jax(config, samples, np.float32)
    assert actual.shape == (2, config.embedding_dim)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clef_medium", "clef_large"])
@pytest.mark.parametrize("samples", [5000, 4999, 2500])
def test_whole_medium_and_large_equal_torch(name, samples):
    expected, actual = torch_and_jax(get_config(name), samples, np.float32, batch=1)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_gradients_equal_torch():
    config = shrunk("clef_medium")
    torch.manual_seed(0)
    oracle = TorchResNeXt1D(config)
    x = np.random.default_rng(1).normal(size=(2, 313, 1)).astype(np.float32)
    oracle(torch.from_numpy(x).transpose(1, 2)).square().sum().backward()

    model = build_model(config)

    def loss(params):
        return jnp.sum(model.apply({"params": params}, x) ** 2)

    actual = jax.jit(jax.grad(loss))(jax_params(oracle))
    with torch.no_grad():
        for parameter in oracle.parameters():
            parameter.copy_(torch.zeros(()) if parameter.grad is None else parameter.grad)
    expected = jax_params(oracle)
    for path, gradient in tree_util.tree_leaves_with_path(actual):
        reference = expected[path[0].key][path[1].key] if len(path) == 2 else None
        if reference is None:
            reference = expected[path[0].key][path[1].key][path[2].key]
        np.testing.assert_allclose(
            gradient, reference, rtol=0, atol=2e-5 * np.abs(reference).max(), err_msg=str(path)
        )


@pytest.mark.slow
def test_rematerialisation_changes_nothing():
    config = dataclasses.replace(
        get_config("clef_small"), stage_widths=(32, 64), stage_blocks=(1, 1)
    )
    x = np.random.default_rng(1).normal(size=(2, 200, 1)).astype(np.float32)
    plain, remat = build_model(config), build_model(config, remat=True)
    params = plain.init(jax.random.key(0), x)["params"]

    def loss(model):
        return lambda p: jnp.sum(model.apply({"params": p}, x) ** 2)

    expected = jax.jit(jax.grad(loss(plain)))(params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(a).max()),
        expected,
        jax.jit(jax.grad(loss(remat)))(params),
    )


@pytest.mark.parametrize(
    "config",
    [
        dataclasses.replace(get_config("clef_small"), stage_widths=(32, 64), stage_blocks=(1, 1)),
        pytest.param(shrunk("clef_small"), marks=pytest.mark.slow),
    ],
    ids=["two blocks", "every kind"],
)
def test_bfloat16_computes_near_float32_and_returns_float32(config):
    x = np.random.default_rng(1).normal(size=(2, 400, 1)).astype(np.float32)
    params = drawn(build_model(config), x)
    exact = jax.jit(build_model(config).apply)({"params": params}, x)
    coarse = jax.jit(build_model(config, dtype=jnp.bfloat16).apply)({"params": params}, x)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))
    assert coarse.dtype == jnp.float32
    assert np.linalg.norm(coarse - exact) < 0.02 * np.linalg.norm(exact)


def test_initialisation_is_torchs_default():
    """Uniform within 1/sqrt(fan_in), for kernels and biases alike."""
    config = dataclasses.replace(get_config("clef_medium"), stage_widths=(1024,), stage_blocks=(2,))
    init = jax.jit(build_model(config).init)
    params = init(jax.random.key(0), jnp.zeros((1, 64, 1)))["params"]
    for layer, fan_in in (("conv1", 1024), ("conv2", 16 * 16), ("conv3", 1024), ("se_fc1", 1024)):
        for leaf in params["stage0_block1"][layer].values():
            bound = fan_in**-0.5
            assert 0.95 * bound < np.abs(leaf).max() <= bound
            assert abs(np.std(leaf) / (bound / 3**0.5) - 1) < 0.06


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="clef_tiny.*clef_small, clef_medium, clef_large"):
        create_model("clef_tiny")


@pytest.mark.parametrize(
    "samples", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (40, 313))]
)
def test_the_mean_of_a_map_is_the_map_of_the_mean(samples):
    """What squeeze-excite is given on a CPU and elsewhere, with the gradients of either."""
    rng = np.random.default_rng(0)
    x, matrix, bias = (
        jnp.asarray(rng.normal(size=shape), jnp.float32)
        for shape in ((3, samples, 8), (8, 6), (6,))
    )

    def squeeze(form):
        def weighed(x, matrix, bias):
            y, mean = x @ matrix + bias[None, None], x.mean(axis=1)
            found = form(y, mean, matrix, bias)
            return jnp.sum(found * jnp.arange(18.0).reshape(3, 6)), found

        return jax.value_and_grad(weighed, argnums=(0, 1, 2), has_aux=True)(x, matrix, bias)

    (_, found), gradients = squeeze(resnext1d._map_of_mean)
    (_, expected), references = squeeze(resnext1d._mean_of_map)
    for a, b in zip((found, *gradients), (expected, *references), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())


def test_a_tpu_alone_computes_blocks_by_their_kernels():
    config = dataclasses.replace(
        get_config("clef_small"), stage_widths=(32, 64), stage_blocks=(1, 1)
    )
    model = build_model(config, dtype=jnp.bfloat16)
    x = jax.ShapeDtypeStruct((128, 200, 1), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), x)

    def loss(params, x):
        return model.apply(params, x).sum()

    trace = jax.jit(jax.value_and_grad(loss)).trace(params, x)
    calls = {
        platform: trace.lower(lowering_platforms=(platform,)).as_text().count("tpu_custom_call")
        for platform in ("cpu", "cuda", "tpu")
    }
    # Forwards and backwards, of both blocks.
    assert calls == {"cpu": 0, "cuda": 0, "tpu": 4}
