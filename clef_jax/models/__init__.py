"""The encoders: their architectures, and the three published sizes of CLEF's."""

from clef_jax.models.encoder_config import EncoderConfig
from clef_jax.models.heads import EncoderWithHead
from clef_jax.models.registry import (
    build_model,
    config_from_dict,
    config_to_dict,
    create_model,
    get_config,
    list_models,
)
from clef_jax.models.resnext1d import ResNeXt1D
from clef_jax.models.resnext1d_config import ResNeXt1DConfig

__all__ = [
    "EncoderConfig",
    "EncoderWithHead",
    "ResNeXt1D",
    "ResNeXt1DConfig",
    "build_model",
    "config_from_dict",
    "config_to_dict",
    "create_model",
    "get_config",
    "list_models",
]
