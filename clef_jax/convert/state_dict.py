"""State dicts of the original's encoder to params and back, without importing torch."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from clef_jax.convert.names import (
    BATCH_NORM_INITIAL,
    BATCH_NORM_RULE,
    HEAD_BIAS,
    HEAD_WEIGHT,
    IGNORED_RULES,
    STEM_WEIGHT,
    batch_norm_entries,
    used_parameters,
)
from clef_jax.data.signals.spec import CLEF_V2, ECGFOUNDER, PreprocessingSpec
from clef_jax.errors import ClefError
from clef_jax.models import ResNeXt1DConfig, resnext1d_config

PREFIX = "backbone."

_NAMES = [size.name for size in resnext1d_config.SIZES]


class ConversionError(ClefError):
    """Weights that are not those of a known encoder; the message lists every difference."""


@dataclasses.dataclass(frozen=True)
class Report:
    """What a conversion found.

    Attributes:
        parameters: Number of parameters that the encoder uses.
        ignored: Rule -> the keys that were left out by it.
        cast: Keys whose type was not float32, as "key (type)".
        classifier: The file's classification head as {"kernel": [D, classes], "bias": [classes]}
            (ECGFounder has one of 150 classes), else None.
        preprocessing: What the encoder's inputs need: ECGFounder's or CLEF's.
        source: File name, size in bytes, SHA-256 and MD5; empty for a state dict in memory.
        warnings: Sentences the user should read.

    Example:
        >>> from clef_jax.convert import read_torch_checkpoint
        >>> report = read_torch_checkpoint("clef_small.ckpt")[2]
        >>> report.parameters, report.cast, report.preprocessing == CLEF_V2
        (443184, [], True)
    """

    parameters: int
    ignored: dict[str, list[str]]
    cast: list[str]
    classifier: dict[str, np.ndarray] | None = None
    preprocessing: PreprocessingSpec = CLEF_V2
    source: dict = dataclasses.field(default_factory=dict)
    warnings: list[str] = dataclasses.field(default_factory=list)


def _float32(key: str, value) -> np.ndarray:
    """Returns a numpy or torch value as float32, without a copy where it is that already."""
    if hasattr(value, "detach"):
        # bfloat16 has no numpy type, so torch does the cast.
        value = value.detach().cpu()
        value = (value.float() if value.is_floating_point() else value).numpy()
    array = np.asarray(value)
    if not np.issubdtype(array.dtype, np.floating):
        raise ConversionError(f"{key}: values of type {array.dtype}, expected floating point")
    return array.astype(np.float32, copy=False)


def _type_name(value) -> str:
    return str(value.dtype).removeprefix("torch.")


def _encoder_keys(state_dict: Mapping) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Splits keys into the encoder's (name without prefix -> key) and those that a rule ignores."""
    names: dict[str, str] = {}
    ignored: dict[str, list[str]] = {}
    prefixed = any(key.startswith(PREFIX) for key in state_dict)
    for key in state_dict:
        rule = next((r for r, pattern in IGNORED_RULES.items() if pattern.match(key)), None)
        if rule is not None:
            ignored.setdefault(rule, []).append(key)
        elif prefixed and not key.startswith(PREFIX):
            # Kept under its own name, which no encoder expects, so that it is reported.
            names[f"(outside {PREFIX[:-1]}) {key}"] = key
        else:
            names[key.removeprefix(PREFIX)] = key
    return names, ignored


def _in_channels(shapes: Mapping[str, tuple[int, ...]]) -> int:
    stem = shapes.get(STEM_WEIGHT, ())
    return stem[1] if len(stem) == 3 and stem[1] > 0 else 1


def _nearest_config(shapes: Mapping[str, tuple[int, ...]]) -> ResNeXt1DConfig:
    """Returns the size that shares the most (name, shape) pairs with `shapes`."""
    in_channels = _in_channels(shapes)
    configs = [
        dataclasses.replace(size, in_channels=in_channels) for size in resnext1d_config.SIZES
    ]

    def agreement(config):
        expected = used_parameters(config)
        same = sum(shapes.get(name) == shape for name, (_, shape) in expected.items())
        return same / len(expected)

    return max(configs, key=agreement)


def _check_names(shapes: Mapping[str, tuple[int, ...]], config: ResNeXt1DConfig) -> None:
    used = {name: shape for name, (_, shape) in used_parameters(config).items()}
    if HEAD_WEIGHT in shapes or HEAD_BIAS in shapes:
        classes = shapes.get(HEAD_WEIGHT, shapes.get(HEAD_BIAS, (0,)))[:1]
        used |= {HEAD_WEIGHT: (*classes, config.embedding_dim), HEAD_BIAS: classes}
    known = used | batch_norm_entries(config)
    missing = [f"  missing     {name} {known[name]}" for name in used if name not in shapes]
    unexpected = [
        f"  unexpected  {name} {shape}" for name, shape in shapes.items() if name not in known
    ]
    misshapen = [
        f"  misshapen   {name}: found {shapes[name]}, expected {shape}"
        for name, shape in known.items()
        if name in shapes and shapes[name] != shape
    ]
    if problems := missing + unexpected + misshapen:
        raise ConversionError(
            f"not the weights of a known encoder. The nearest is {config.name}; against it "
            f"{len(missing)} keys are missing, {len(unexpected)} unexpected and {len(misshapen)} "
            "misshapen (torch names, torch shapes):\n" + "\n".join(problems) + "\nUse a file of "
            f"one of {', '.join(_NAMES)} or of ECGFounder, unchanged as it was published."
        )


def _check_values(arrays: Mapping[str, np.ndarray]) -> None:
    broken = [f"  non-finite  {name}" for name, a in arrays.items() if not np.isfinite(a).all()]
    # A bias may be zero; a whole weight never is after training from a random start.
    broken += [
        f"  all zeros   {name}"
        for name, a in arrays.items()
        if name.endswith("weight") and not a.any()
    ]
    if broken:
        raise ConversionError(
            f"{len(broken)} of {len(arrays)} arrays hold no usable values:\n"
            + "\n".join(broken)
            + "\nThe file is damaged or its training diverged; get an intact copy."
        )


def _to_ours(weight: np.ndarray) -> np.ndarray:
    """Reverses the axes: torch [out, in, taps] or [out, in] to [taps, in, out] or [in, out].

    Always a copy: a view of one bias would keep the whole file mapped.
    """
    return np.array(weight.T, order="C")


def from_state_dict(state_dict: Mapping) -> tuple[ResNeXt1DConfig, dict, Report]:
    """Converts a state dict of the original, strictly.

    Args:
        state_dict: torch name -> numpy or torch value; with or without the prefix "backbone.".

    Returns:
        The detected size, the params (nested dict of new float32 arrays) and a report.

    Raises:
        ConversionError: A key is missing, unexpected or misshapen, or values are unusable. The
            message lists all of them and the nearest size.

    Example:
        >>> import torch
        >>> state_dict = torch.load("clef_small.ckpt", weights_only=True)["state_dict"]
        >>> config, params, report = from_state_dict(state_dict)
        >>> config.name, report.parameters
        ('clef_small', 443184)
    """
    names, ignored = _encoder_keys(state_dict)
    shapes = {name: tuple(np.shape(state_dict[key])) for name, key in names.items()}
    config = _nearest_config(shapes)
    _check_names(shapes, config)

    wanted = used_parameters(config)
    head = [name for name in (HEAD_WEIGHT, HEAD_BIAS) if name in names]
    arrays = {name: _float32(name, state_dict[names[name]]) for name in (*wanted, *head)}
    _check_values(arrays)
    cast = [
        f"{names[name]} ({_type_name(state_dict[names[name]])})"
        for name in arrays
        if _type_name(state_dict[names[name]]) != "float32"
    ]
    params: dict = {}
    for name, (path, _) in wanted.items():
        layer = params
        for step in path[:-1]:
            layer = layer.setdefault(step, {})
        layer[path[-1]] = _to_ours(arrays[name])
    norms = [names[name] for name in batch_norm_entries(config) if name in names]
    if norms:
        ignored[BATCH_NORM_RULE] = norms
    report = Report(
        parameters=sum(arrays[name].size for name in wanted),
        ignored=ignored,
        cast=cast,
        classifier=(
            {"kernel": _to_ours(arrays[HEAD_WEIGHT]), "bias": arrays[HEAD_BIAS].copy()}
            if head
            else None
        ),
        # CLEF's files hold no head, its encoders one lead.
        preprocessing=ECGFOUNDER if head or config.in_channels > 1 else CLEF_V2,
    )
    return config, params, report


def to_state_dict(config: ResNeXt1DConfig, params: Mapping) -> dict[str, np.ndarray]:
    """Returns the params under the original's names (without "backbone.") and in its layouts.

    BatchNorm entries, which the original expects and never uses, have their initial values.

    Raises:
        ConversionError: The params are not those of `config`.

    Example:
        >>> from clef_jax import load_encoder
        >>> encoder = load_encoder("weights/clef_small")
        >>> to_state_dict(encoder.config, encoder.params)["first_conv.conv.weight"].shape
        (32, 1, 16)
    """
    state_dict = {}
    for name, (path, shape) in used_parameters(config).items():
        value: Any = params
        for step in path:
            if step not in value:
                raise ConversionError(
                    f"params hold no {'/'.join(path)}; they are not those of {config.name}"
                )
            value = value[step]
        array = np.array(np.asarray(value).T, order="C")
        if array.shape != shape:
            raise ConversionError(
                f"{'/'.join(path)} has shape {np.shape(value)}, expected {shape[::-1]} for "
                f"{config.name} with {config.in_channels} input channels"
            )
        state_dict[name] = array
    for name, shape in batch_norm_entries(config).items():
        entry = name.rsplit(".", 1)[1]
        dtype = np.int64 if entry == "num_batches_tracked" else np.float32
        state_dict[name] = np.full(shape, BATCH_NORM_INITIAL[entry], dtype)
    return state_dict
