"""The arrays of a checkpoint: what is stored, and whether it is what is expected."""

import hashlib
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from clef_jax import hosts
from clef_jax.checkpoints.meta import CheckpointError


def leaf_types(tree: Any) -> dict[str, tuple[tuple[int, ...], str]]:
    """Returns every leaf's shape and type by its name: {"stem/bias": ((32,), "float32"), …}."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): (
            tuple(leaf.shape),
            jnp.dtype(leaf.dtype).name,
        )
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def params_sha256(params: Any) -> str:
    """Returns a hash of names, types, shapes and values, the same however they are stored.

    To be called by every process where each holds a part of the parameters.
    """
    found = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        array = np.ascontiguousarray(hosts.fetch(leaf))
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        found.update(f"{name} {array.dtype.str} {np.shape(leaf)}\n".encode())
        found.update(array.data)
    return found.hexdigest()


def stored_shapes(item: pathlib.Path) -> Any:
    """Returns the tree of shapes and types of a stored item."""
    metadata = ocp.PyTreeCheckpointHandler().metadata(item).tree
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), metadata)


def require_match(item: pathlib.Path, expected: Any) -> None:
    """Raises CheckpointError with every parameter whose name, shape or type differs."""
    stored, wanted = leaf_types(stored_shapes(item)), leaf_types(expected)
    differing = sorted(k for k in stored | wanted if stored.get(k) != wanted.get(k))
    if differing:
        lines = [f"  {k}: {stored.get(k)} stored, {wanted.get(k)} expected" for k in differing[:8]]
        more = f"\n  and {len(differing) - 8} more" if len(differing) > 8 else ""
        raise CheckpointError(
            f"{item.parent}: the checkpoint holds another model; set config.model as it was, or "
            "start another workdir\n" + "\n".join(lines) + more
        )
