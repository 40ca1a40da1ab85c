"""Whether a run that goes on is still the one that began, by its checkpoints' meta records."""

from collections.abc import Mapping
from typing import Any

from absl import logging

import clef_jax
from clef_jax.checkpoints.encoder import load_params
from clef_jax.checkpoints.items import params_sha256
from clef_jax.nested import flatten

# These may change: they do not alter what a step computes.
_FREE = frozenset(
    {"checkpoint_steps", "epochs", "eval_steps", "keep_checkpoints", "log_steps", "num_threads"}
    | {"num_workers", "patience", "steps", "tensorboard"}
)
# Of these what they lead to counts, which has a fingerprint.
_COMPARED_BY_CONTENT = frozenset({"annotations", "init", "noise", "validation_fraction"})
# What a run did whose release did not have the key yet.
_BEFORE_KEY = {"clip_norm": None, "ema_decay": None, "remat": False}


def run_differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Compares the meta record of a checkpoint with the one that the run would write now.

    Args:
        found: The checkpoint's, of this or an earlier release.
        wanted: This release's, with the configuration of now.

    Returns:
        A phrase for each difference that would alter what the next steps compute.

    Raises:
        CheckpointError: `config.init` has moved, and there is no checkpoint where it is now.
    """
    differing = _config_differences(flatten(found["config"]), flatten(wanted["config"]))
    if _starts_elsewhere(found.get("init"), wanted["config"]["init"]):
        differing.append("config.init holds other initial weights")
    sources = {"shards": "shard set", "noise": "noise bank", "preprocessing": "preprocessing"}
    differing += [f"another {name}" for key, name in sources.items() if found[key] != wanted[key]]
    for name, fingerprint in wanted["annotations"].items():
        if found["annotations"].get(name) != fingerprint:
            what = "split" if name == "split" else f"annotation of {name}"
            differing.append(f"another {what}")
    return differing


def _config_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    # The length of the run shapes the plain cosine.
    free = _FREE if new["schedule"] == "warm_restarts" else _FREE - {"epochs", "steps"}
    differing = []
    for key in sorted((old.keys() | new.keys()) - free - _COMPARED_BY_CONTENT):
        if key not in new:
            differing.append(
                f"config.{key} was {old[key]!r}, a key that clef_jax {clef_jax.__version__} does "
                "not know"
            )
        elif key not in old and key not in _BEFORE_KEY:
            logging.warning("config.%s came after the run began; it is %r now", key, new[key])
        elif (before := old.get(key, _BEFORE_KEY.get(key))) != new[key]:
            differing.append(f"config.{key} was {before!r} and is {new[key]!r}")
    return differing


def _starts_elsewhere(init: Mapping[str, Any] | None, path: str) -> bool:
    """Compares the record of a run's initial weights, if it had any, with those in a folder."""
    if init is None or not path:
        return init is not None or bool(path)
    if path == init["path"]:
        return False
    params, meta = load_params(path)
    if "sha256" in init:
        return params_sha256(params) != init["sha256"]
    return meta.get("provenance") != init["provenance"]  # Release 0.1.0 noted no more.
