"""What determines a fine-tuning, as a JSON record, and whether two are the same."""

import dataclasses
import importlib.metadata
import json
from collections.abc import Mapping
from typing import Any

import clef_jax
from clef_jax.checkpoints.items import params_sha256
from clef_jax.checkpoints.upgrades import FORMAT_VERSION
from clef_jax.data.noise.bank import NoiseBank
from clef_jax.evaluate.finetune.inputs import Inputs
from clef_jax.evaluate.finetune.options import FinetuneError, Options
from clef_jax.inference import Encoder
from clef_jax.models import config_to_dict
from clef_jax.nested import flatten

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
# What may differ between two parts of one training.
_INCIDENTAL = ("versions",)


def finetune_record(
    encoder: Encoder, inputs: Inputs, options: Options, noise: NoiseBank | None
) -> dict[str, Any]:
    """Returns the record of a fine-tuning, but for its seed.

    Args:
        encoder: What it starts from.
        inputs: What it is trained on.
        options: How.
        noise: What augmentation adds.
    """
    record = {
        "kind": "fine-tuning",
        "format_version": FORMAT_VERSION,
        "model": config_to_dict(encoder.config),
        "preprocessing": encoder.preprocessing.to_dict(),
        "options": dataclasses.asdict(options),
        "task": inputs.task,
        "inputs": inputs.fingerprint(),
        "encoder": None if options.mode == "scratch" else params_sha256(encoder.params),
        "noise": noise.fingerprint() if options.augment and noise is not None else None,
        "versions": {
            "clef_jax": clef_jax.__version__,
            **{name: importlib.metadata.version(name) for name in _PACKAGES},
        },
    }
    return json.loads(json.dumps(record))


def require_same(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Compares the record of what a folder holds with that of now.

    Raises:
        FinetuneError: They differ in what determines the training; the message says in what.
    """
    there = flatten({name: found.get(name) for name in wanted if name not in _INCIDENTAL})
    now = flatten({name: wanted[name] for name in wanted if name not in _INCIDENTAL})
    differing = [
        f"{name} was {there.get(name)}, now {now.get(name)}"
        for name in sorted(there | now)
        if there.get(name) != now.get(name)
    ]
    if differing:
        raise FinetuneError(
            f"the folder holds another fine-tuning, which cannot go on: {'; '.join(differing)}; "
            "choose another folder, or remove it"
        )
