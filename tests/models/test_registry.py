"""Another architecture: one file and one line, through init, costs and meta."""

import dataclasses
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clef_jax.models import (
    EncoderConfig,
    build_model,
    config_from_dict,
    config_to_dict,
    costs,
    create_model,
    get_config,
    list_models,
    registry,
)


class Mean(nn.Module):
    width: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.width, dtype=self.dtype)(x.mean(axis=1))


@dataclasses.dataclass(frozen=True)
class MeanConfig(EncoderConfig):
    width: int

    @property
    def embedding_dim(self):
        return self.width

    def build(self, *, dtype, remat):
        return Mean(self.width, dtype)


@pytest.fixture
def mean(monkeypatch):
    config = MeanConfig("mean", 3)
    monkeypatch.setitem(registry._ARCHITECTURES, "mean", (MeanConfig, (config,)))
    monkeypatch.setitem(registry._CONFIGS, "mean", config)
    return config


def test_another_architecture_is_listed_built_and_stored(mean):
    assert list_models()[-1] == "mean" and get_config("mean") == mean
    x = np.ones((2, 7, 1), np.float32)
    model = create_model("mean")
    params = model.init(jax.random.key(0), x)
    assert model.apply(params, x).shape == (2, mean.embedding_dim)
    assert build_model(mean) == model and costs.train_flops(mean, 7) == 0
    stored = json.loads(json.dumps(config_to_dict(mean)))
    assert stored == {"architecture": "mean", "name": "mean", "width": 3, "in_channels": 1}
    assert config_from_dict(stored) == mean


@pytest.mark.parametrize("name", ["clef_small", "clef_medium", "clef_large"])
def test_a_published_size_comes_back_with_and_without_its_architecture(name):
    config = get_config(name, in_channels=12)
    stored = json.loads(json.dumps(config_to_dict(config)))
    assert config_from_dict(stored) == config
    assert stored.pop("architecture") == "resnext1d"
    assert config_from_dict(stored) == config


def test_an_unknown_architecture_is_named_beside_the_known():
    with pytest.raises(ValueError, match="'architecture' of 'model' is 'vit'; known: resnext1d"):
        config_from_dict({"architecture": "vit", "name": "vit_small"})
