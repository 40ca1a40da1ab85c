"""The three published encoder sizes and the two functions that give access to them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jax.typing import DTypeLike

from clef_jax.models.resnext1d import ResNeXt1D


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """Shape of one encoder (arXiv 2512.02180; the sizes follow its released configurations).

    Checkpoints hold these fields. One that is added later needs a default which means what
    encoders were before it, as theirs lack it.

    Attributes:
        name: Public name of the size.
        stem_width: Channels after the stem convolution.
        ratio: Bottleneck width over stage width.
        stage_widths: Output channels of each stage; its last is the embedding's length.
        stage_blocks: Residual blocks in each stage.
        group_width: Stage width over the number of groups of the grouped convolution.
        in_channels: Leads the encoder sees at once.
        kernel_size: Taps of the stem and of the grouped convolutions.
    """

    name: str
    stem_width: int
    ratio: float
    stage_widths: tuple[int, ...]
    stage_blocks: tuple[int, ...]
    group_width: int
    in_channels: int = 1
    kernel_size: int = 16

    @property
    def embedding_dim(self) -> int:
        """Length D of the embedding."""
        return self.stage_widths[-1]


_CONFIGS = {
    config.name: config
    for config in (
        EncoderConfig(
            name="clef_small",
            stem_width=32,
            ratio=0.5,
            stage_widths=(32, 64, 64, 128, 128, 256),
            stage_blocks=(1, 1, 2, 2, 2, 2),
            group_width=8,
        ),
        EncoderConfig(
            name="clef_medium",
            stem_width=64,
            ratio=1.0,
            stage_widths=(64, 160, 160, 400, 400, 1024, 1024),
            stage_blocks=(2, 2, 2, 3, 3, 4, 4),
            group_width=16,
        ),
        EncoderConfig(
            name="clef_large",
            stem_width=128,
            ratio=1.5,
            stage_widths=(128, 256, 256, 512, 512, 1024, 1024, 2048, 2048),
            stage_blocks=(2, 3, 3, 4, 4, 5, 5, 6, 6),
            group_width=32,
        ),
    )
}


def list_models() -> list[str]:
    """Returns the names that `create_model` and `get_config` accept, smallest first."""
    return list(_CONFIGS)


def get_config(name: str, *, in_channels: int = 1) -> EncoderConfig:
    """Returns the `EncoderConfig` of a named size.

    Raises:
        ValueError: The name is none of `list_models()`.
    """
    if name not in _CONFIGS:
        raise ValueError(f"unknown model {name!r}; choose one of {', '.join(list_models())}")
    return dataclasses.replace(_CONFIGS[name], in_channels=in_channels)


def config_from_dict(fields: Mapping[str, Any]) -> EncoderConfig:
    """Returns the config that `dataclasses.asdict` and JSON made `fields` of.

    Raises:
        ValueError: A field is unknown, or one without default is missing.
    """
    known = {field.name: field.default for field in dataclasses.fields(EncoderConfig)}
    unknown = sorted(fields.keys() - known)
    missing = sorted(
        name
        for name, default in known.items()
        if default is dataclasses.MISSING and name not in fields
    )
    faults = [f"unknown {', '.join(unknown)}"] * bool(unknown)
    faults += [f"missing {', '.join(missing)}"] * bool(missing)
    if faults:
        raise ValueError(f"fields of 'model': {'; '.join(faults)}")
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    return EncoderConfig(**values)


def build_model(
    config: EncoderConfig, *, dtype: DTypeLike = jnp.float32, remat: bool = False
) -> ResNeXt1D:
    """Returns the Linen module of any `EncoderConfig`; arguments as in `create_model`."""
    return ResNeXt1D(
        stem_width=config.stem_width,
        ratio=config.ratio,
        stage_widths=config.stage_widths,
        stage_blocks=config.stage_blocks,
        group_width=config.group_width,
        kernel_size=config.kernel_size,
        dtype=dtype,
        remat=remat,
    )


def create_model(
    name: str, *, in_channels: int = 1, dtype: DTypeLike = jnp.float32, remat: bool = False
) -> ResNeXt1D:
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
    """
    return build_model(get_config(name, in_channels=in_channels), dtype=dtype, remat=remat)
