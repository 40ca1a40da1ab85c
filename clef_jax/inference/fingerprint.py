"""What an encoder checkpoint says about itself, and a check that it still computes the same."""

import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

import clef_jax
from clef_jax.checkpoints.upgrades import FORMAT_VERSION
from clef_jax.data.signals.spec import CLEF_V2, PreprocessingSpec
from clef_jax.inference.forward import apply
from clef_jax.models import EncoderConfig, build_model, config_to_dict

_LENGTH = 16
# Of the fixed input, whatever the encoder's preprocessing.
_SAMPLES, _FS = 5000, 500.0
# float32 sums in another order differ by 1e-6; any other weights by more than 0.01.
_TOLERANCE = 1e-4


def _fixed_input(channels: int) -> np.ndarray:
    """Returns float32 [1, samples, channels]: a train of heartbeats, the same for ever."""
    t = np.arange(_SAMPLES) / _FS
    beats = sum(
        height * np.exp(-0.5 * (((t - shift) % 0.8 - 0.4) / width) ** 2)
        for height, shift, width in ((0.1, -0.16, 0.02), (1.0, 0.0, 0.01), (0.3, 0.25, 0.04))
    )
    leads = np.stack([beats * np.cos(c) + 0.05 * np.sin(1.7 * t + c) for c in range(channels)], -1)
    return ((leads - leads.mean(0)) / leads.std(0)).astype(np.float32)[None]


def fingerprint(config: EncoderConfig, params: Any) -> list[float]:
    """Returns 16 numbers that identify an encoder by what it computes.

    They are the first cosine coefficients of its embedding of a fixed input, so that every element
    of the embedding counts.

    Example:
        >>> from clef_jax import load_encoder
        >>> encoder = load_encoder("weights/clef_small")
        >>> numbers = fingerprint(encoder.config, encoder.params)
        >>> len(numbers), fingerprints_agree(numbers, encoder.meta["fingerprint"])
        (16, True)
    """
    outputs = apply(build_model(config), (), params, _fixed_input(config.in_channels))
    embedding = np.asarray(outputs.embedding[0], np.float64)
    positions = (np.arange(embedding.size) + 0.5) / embedding.size
    basis = np.cos(np.pi * np.arange(_LENGTH)[:, None] * positions[None])
    return [float(f"{value:.7g}") for value in basis @ embedding / np.sqrt(embedding.size)]


def fingerprints_agree(a: Sequence[float], b: Sequence[float]) -> bool:
    """Tells whether two fingerprints are the same up to the rounding of float32.

    Example:
        >>> fingerprints_agree([0.5, -2.0], [0.5, -2.00001])
        True
        >>> fingerprints_agree([0.5, -2.0], [0.5, -2.02])
        False
    """
    if len(a) != len(b):
        return False
    return bool(np.abs(np.subtract(a, b)).max() <= _TOLERANCE * np.abs(b).max())


def encoder_meta(
    config: EncoderConfig,
    params: Any,
    provenance: Mapping[str, Any],
    preprocessing: PreprocessingSpec = CLEF_V2,
) -> dict[str, Any]:
    """Returns the meta record that an encoder checkpoint must carry.

    Args:
        config: Shape of the encoder.
        params: Its parameters.
        provenance: Where the weights come from, JSON-ready.
        preprocessing: What its inputs need.

    Example:
        >>> from clef_jax import load_encoder
        >>> encoder = load_encoder("weights/clef_small")
        >>> meta = encoder_meta(encoder.config, encoder.params, {"source": "made here"})
        >>> meta["parameters"], meta["preprocessing"]["fs"], meta["provenance"]
        (443184, 500.0, {'source': 'made here'})
    """
    count = sum(int(np.size(leaf)) for leaf in jax.tree.leaves(params))
    return {
        "kind": "encoder",
        "format_version": FORMAT_VERSION,
        "model": config_to_dict(config),
        "parameters": count,
        "preprocessing": preprocessing.to_dict(),
        "fingerprint": fingerprint(config, params),
        "provenance": dict(provenance),
        "versions": {
            "clef_jax": clef_jax.__version__,
            **{name: importlib.metadata.version(name) for name in ("jax", "flax", "numpy")},
        },
    }
