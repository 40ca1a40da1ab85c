"""The ResNeXt1D encoder and its three published sizes."""

from clef_jax.models.registry import (
    EncoderConfig,
    build_model,
    config_from_dict,
    create_model,
    get_config,
    list_models,
)
from clef_jax.models.resnext1d import ResNeXt1D

__all__ = [
    "EncoderConfig",
    "ResNeXt1D",
    "build_model",
    "config_from_dict",
    "create_model",
    "get_config",
    "list_models",
]
