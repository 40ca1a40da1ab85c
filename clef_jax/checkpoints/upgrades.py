"""Checkpoints of earlier formats, read as today's.

- 1 (releases to 0.1.0): no checksums, and no `format_version` in the meta record.
- 2: the item `encoder` is called `params`. A run trains nothing besides, so its `rest` is `step`
  and the state of an optimiser over the encoder's parameters alone. Its configuration has
  `objective` where today's has `method`, and `eval_steps` where it has `evaluators.validation`.
- 3: today's. Its first checkpoints do not say whom the encoder was trained on, which then nobody
  knows; and their configuration may have `profile_steps`, on which nothing depends.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax

FORMAT_VERSION = 3
_FIRST_WITH_ENCODER_ITEM = 3


def format_of(meta: Mapping[str, Any]) -> int:
    """Returns the format of the checkpoint that a meta record belongs to."""
    return meta.get("format_version", 1)


def encoder_item(path: pathlib.Path) -> str:
    """Returns the name of the item in a checkpoint's folder that holds the encoder."""
    return "params" if (path / "params").is_dir() else "encoder"


def upgraded_meta(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a meta record of any format as today's, its `format_version` as it was."""
    meta = dict(meta)
    if format_of(meta) < _FIRST_WITH_ENCODER_ITEM and "objective" in meta.get("config", {}):
        config = dict(meta["config"])
        objective = config.pop("objective")
        # It held CLEF's options under SimCLR, too, which has no use for them.
        used = objective if objective["name"] == "clef" else ("name", "temperature")
        config["method"] = {key: objective[key] for key in used}
        if "eval_steps" in config:
            config["evaluators"] = {"validation": config.pop("eval_steps")}
        meta["config"] = config
    if "config" in meta:
        meta["config"] = {k: v for k, v in meta["config"].items() if k != "profile_steps"}
    return meta


def older_rest(rest: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the structure that formats 1 and 2 have for an item `rest` of today's."""
    return {"step": rest["step"], "opt_state": _encoder_alone(rest["opt_state"])}


def upgraded_rest(found: Mapping[str, Any], like: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an item `rest` of formats 1 and 2 in the structure of today's, which `like` has."""
    opt_state = jax.tree.map(
        lambda node, stored: {"encoder": stored} if _is_params(node) else stored,
        like["opt_state"],
        found["opt_state"],
        is_leaf=_is_params,
    )
    return {**like, "step": found["step"], "opt_state": opt_state}


def _encoder_alone(opt_state: Any) -> Any:
    return jax.tree.map(
        lambda node: node["encoder"] if _is_params(node) else node, opt_state, is_leaf=_is_params
    )


def _is_params(node: Any) -> bool:
    return isinstance(node, dict) and node.keys() == {"encoder"}
