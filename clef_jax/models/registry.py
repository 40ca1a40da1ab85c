"""The encoders there are: architectures by the name that checkpoints hold, sizes by their own."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from clef_jax.models import resnext1d_config
from clef_jax.models.encoder_config import EncoderConfig

# Name -> (config class, sizes). Another architecture is a file with both, and a line here.
_ARCHITECTURES: dict[str, tuple[type[EncoderConfig], tuple[EncoderConfig, ...]]] = {
    "resnext1d": (resnext1d_config.ResNeXt1DConfig, resnext1d_config.SIZES),
}
_CONFIGS = {config.name: config for _, sizes in _ARCHITECTURES.values() for config in sizes}
# That of checkpoints which name none, as releases to 0.1.0 wrote them.
_FIRST_ARCHITECTURE = "resnext1d"


def list_models() -> list[str]:
    """Returns the names that `create_model` and `get_config` accept, CLEF's sizes first.

    Example:
        >>> list_models()[:3]
        ['clef_small', 'clef_medium', 'clef_large']
    """
    return list(_CONFIGS)


def get_config(name: str, *, in_channels: int = 1) -> EncoderConfig:
    """Returns the `EncoderConfig` of a named size.

    Raises:
        ValueError: The name is none of `list_models()`.

    Example:
        >>> get_config("clef_small", in_channels=12).embedding_dim
        256
    """
    if name not in _CONFIGS:
        raise ValueError(f"unknown model {name!r}; choose one of {', '.join(list_models())}")
    return dataclasses.replace(_CONFIGS[name], in_channels=in_channels)


def config_to_dict(config: EncoderConfig) -> dict[str, Any]:
    """Returns a config as a JSON-ready dictionary with its architecture's name.

    Example:
        >>> fields = config_to_dict(get_config("clef_small"))
        >>> fields["architecture"], fields["name"], fields["kernel_size"]
        ('resnext1d', 'clef_small', 16)
    """
    (architecture,) = (name for name, (kind, _) in _ARCHITECTURES.items() if type(config) is kind)
    return {"architecture": architecture, **dataclasses.asdict(config)}


def config_from_dict(fields: Mapping[str, Any]) -> EncoderConfig:
    """Returns the config that `config_to_dict` and JSON made `fields` of, in any release.

    Raises:
        ValueError: The architecture or a field is unknown, or one without default is missing.

    Example:
        >>> config = get_config("clef_small")
        >>> config_from_dict(config_to_dict(config)) == config
        True
    """
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    architecture = values.pop("architecture", _FIRST_ARCHITECTURE)
    if architecture not in _ARCHITECTURES:
        raise ValueError(
            f"field 'architecture' of 'model' is {architecture!r}; known: "
            f"{', '.join(_ARCHITECTURES)}"
        )
    kind, _ = _ARCHITECTURES[architecture]
    known = {field.name: field.default for field in dataclasses.fields(kind)}
    unknown = sorted(values.keys() - known)
    missing = sorted(
        name
        for name, default in known.items()
        if default is dataclasses.MISSING and name not in values
    )
    faults = [f"unknown {', '.join(unknown)}"] * bool(unknown)
    faults += [f"missing {', '.join(missing)}"] * bool(missing)
    if faults:
        raise ValueError(f"fields of 'model': {'; '.join(faults)}")
    return kind(**values)


def build_model(
    config: EncoderConfig, *, dtype: DTypeLike = jnp.float32, remat: bool = False
) -> nn.Module:
    """Returns the Linen module of any `EncoderConfig`; arguments as in `create_model`.

    Example:
        >>> config = dataclasses.replace(get_config("clef_small"), stage_widths=(32, 64))
        >>> config = dataclasses.replace(config, stage_blocks=(1, 1))
        >>> import jax
        >>> model = build_model(config)
        >>> x = jnp.zeros((3, 500, 1))
        >>> jax.jit(model.init_with_output)(jax.random.key(0), x)[0].shape
        (3, 64)
    """
    return config.build(dtype=dtype, remat=remat)


def create_model(
    name: str, *, in_channels: int = 1, dtype: DTypeLike = jnp.float32, remat: bool = False
) -> nn.Module:
    """Returns the encoder of a named size as a Linen module.

    Args:
        name: One of `list_models()`.
        in_channels: Channels C of the input `x [N, T, C]`; `init` and `apply` must be given that C.
        dtype: Compute type, float32 or bfloat16. Parameters and embeddings stay float32.
        remat: Recompute each block's activations in the backward pass, which trades about a third
            more arithmetic for memory that grows with blocks' inputs only.

    Returns:
        A module with `.init(key, x)` and `.apply({"params": params}, x) -> [N, D]`.

    Raises:
        ValueError: The name is unknown.

    Example:
        >>> import jax
        >>> model = create_model("clef_small")
        >>> x = jax.random.normal(jax.random.key(0), (2, 500, 1))
        >>> params = jax.jit(model.init)(jax.random.key(1), x)["params"]
        >>> jax.jit(model.apply)({"params": params}, x).shape
        (2, 256)
    """
    return build_model(get_config(name, in_channels=in_channels), dtype=dtype, remat=remat)
