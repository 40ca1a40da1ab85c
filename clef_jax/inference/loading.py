"""Checkpoint folders to encoders, refusing what this release would run wrongly."""

import io
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

import clef_jax
from clef_jax import stores
from clef_jax.checkpoints.encoder import CLASSIFIER, load_params
from clef_jax.checkpoints.items import leaf_types
from clef_jax.checkpoints.meta import CheckpointError, reading
from clef_jax.data.signals.spec import PreprocessingSpec, SpecError
from clef_jax.inference.encoder import Encoder
from clef_jax.models import EncoderConfig, build_model, config_from_dict


def _config_of(meta: dict, path: str) -> EncoderConfig:
    try:
        return config_from_dict(meta.get("model") or {})
    except ValueError as error:
        wrote = (meta.get("versions") or {}).get("clef_jax", "of an unknown version")
        raise CheckpointError(
            f"{path}: its meta record describes no encoder that this clef_jax, "
            f"{clef_jax.__version__}, can build ({error}); clef_jax {wrote} wrote it: use that, or "
            "convert it again"
        ) from None


def preprocessing_of(meta: Mapping[str, Any], path: str) -> PreprocessingSpec:
    """Returns the preprocessing that an encoder's inputs need, by its meta record.

    Args:
        meta: The record.
        path: The checkpoint, for the error's message.

    Raises:
        CheckpointError: This release cannot do it.
    """
    try:
        return PreprocessingSpec.from_dict(meta.get("preprocessing") or {})
    except SpecError as error:
        raise CheckpointError(
            f"{path}: the encoder needs other preprocessing than this release does: {error}; use "
            "the release of clef_jax that wrote it, named in its meta record"
        ) from None


def _check_params(config: EncoderConfig, params: Any, samples: int, path: str) -> None:
    x = jax.ShapeDtypeStruct((1, samples, config.in_channels), jnp.float32)
    expected = jax.eval_shape(build_model(config).init, jax.random.key(0), x)["params"]
    found, wanted = leaf_types(params), leaf_types(expected)
    if wrong := sorted(k for k in found | wanted if found.get(k) != wanted.get(k)):
        raise CheckpointError(
            f"{path}: {len(wrong)} parameters are not those of {config.name}: "
            + ", ".join(f"{k} {found.get(k)} instead of {wanted.get(k)}" for k in wrong[:8])
            + "; the checkpoint is damaged, convert it again"
        )


def load_encoder(path: str | os.PathLike, *, dtype: DTypeLike = jnp.float32) -> Encoder:
    """Loads a converted or pretrained encoder.

    Args:
        path: A folder that `clef-jax convert` wrote, or a pretraining workdir.
        dtype: Compute type, float32 or bfloat16.

    Raises:
        CheckpointError: There is no such checkpoint, or it does not fit this release.

    Example:
        >>> load_encoder("weights/clef_small")
        <Encoder clef_small: 443,184 parameters, 256-d embedding>
    """
    path = os.fspath(path)
    params, meta = load_params(path)
    with reading(pathlib.Path(path)):  # A shape that cannot be fails in building what it says.
        preprocessing = preprocessing_of(meta, path)
        config = _config_of(meta, path)
        _check_params(config, params, preprocessing.samples, path)
    classifier = stores.at(path) / CLASSIFIER
    head = None
    if classifier.is_file():
        content = io.BytesIO(stores.read_bytes(classifier))
        with np.load(content, allow_pickle=False) as arrays:
            head = dict(arrays)
    return Encoder(
        config, params, preprocessing=preprocessing, meta=meta, classifier=head, dtype=dtype
    )
