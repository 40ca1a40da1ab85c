"""Heads: what they make of the stages, by numpy; that they leave out by row what they leave out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clef_jax.inference.forward import apply
from clef_jax.models import EncoderWithHead, ResNeXt1DConfig, build_model
from tests.parameters import drawn

CONFIG = ResNeXt1DConfig(
    "tiny", stem_width=4, ratio=1.0, stage_widths=(4, 8), stage_blocks=(1, 1), group_width=2
)

X = jax.random.normal(jax.random.key(0), (5, 90, 1))


@pytest.fixture(scope="module")
def encoded():
    """Parameters of an encoder, and what it makes of X."""
    params = drawn(build_model(CONFIG), X)
    return params, apply(build_model(CONFIG), CONFIG.layers, params, X)


def head_params(kind, encoder):
    model = EncoderWithHead(CONFIG, outputs=3, kind=kind)
    return model, {**drawn(model, X), "encoder": encoder}


@pytest.mark.parametrize("kind", ["linear", "attention", "stages"])
def test_outputs_are_the_linear_map_of_the_features(encoded, kind):
    encoder, outputs = encoded
    model, params = head_params(kind, encoder)
    last = np.asarray(outputs.layers["stage1"], np.float64)
    match kind:
        case "linear":
            features = np.asarray(outputs.embedding)
        case "stages":
            features = np.concatenate(
                [np.asarray(stage).mean(1) for stage in outputs.layers.values()], axis=1
            )
        case "attention":
            scores = np.exp(last @ np.asarray(params["head"]["query"], np.float64))
            share = scores / scores.sum(1, keepdims=True)
            features = (share[..., None] * last).sum(1)
    output = params["head"]["output"]
    expected = features @ np.asarray(output["kernel"]) + np.asarray(output["bias"])
    found = apply(model, (), params, X).embedding
    assert found.dtype == jnp.float32 and found.shape == (5, 3)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_attention_begins_as_the_mean_over_time(encoded):
    encoder, _ = encoded
    linear, params = head_params("linear", encoder)
    attention = EncoderWithHead(CONFIG, outputs=3, kind="attention")
    begun = jax.jit(lambda key: attention.init(key, X)["params"]["head"])(jax.random.key(2))
    queried = {**params, "head": {**params["head"], "query": begun["query"]}}
    np.testing.assert_allclose(
        apply(attention, (), queried, X).embedding,
        apply(linear, (), params, X).embedding,
        rtol=1e-5,
        atol=1e-6,
    )


def test_dropout_is_each_rows_own_and_none_without_keys(encoded):
    encoder, outputs = encoded
    _, params = head_params("linear", encoder)
    # The identity shows the features that are left.
    params = {**params, "head": {"output": {"kernel": jnp.eye(8), "bias": jnp.zeros(8)}}}
    model = EncoderWithHead(CONFIG, outputs=8, dropout=0.25)
    embedding = np.asarray(outputs.embedding)
    np.testing.assert_allclose(apply(model, (), params, X).embedding, embedding, atol=1e-7)
    keys = jax.random.split(jax.random.key(4), 5)
    training = jax.jit(lambda x, keys: model.apply({"params": params}, x, keys))
    found = np.asarray(training(X, keys))
    kept = found != 0
    np.testing.assert_allclose(found, np.where(kept, embedding / 0.75, 0), rtol=1e-5, atol=1e-6)
    assert 0.5 < kept.mean() < 0.95 and len(np.unique(kept, axis=0)) > 1
    turned = training(X[::-1], keys[::-1])
    np.testing.assert_allclose(turned[::-1], found, rtol=1e-5, atol=1e-6)
