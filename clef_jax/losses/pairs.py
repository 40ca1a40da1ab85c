"""Pairs of embeddings: what is compared with what.

Rows and columns need not be the same embeddings: columns may be a queue's, or texts'. Each side has
a number of views of each subject, A and B, that share everything which depends on the subject; so
pairs are laid out `[rows, A, B, M]` (row's subject, view of the row, view of the column, column's
subject), and per-subject matrices `[rows, M]` broadcast over the views.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# Below this squared norm a row counts as zero: its similarities are 0 and its gradient is finite.
_TINY_SQUARED_NORM = 1e-12


class Pairs(NamedTuple):
    """This device's rows and everyone's columns, all of unit length.

    Attributes:
        rows: `[A, n, D]`.
        partners: What each row belongs with `[A, n, D]`: the subject's other view, its text.
        columns: `[B, M, D]`.
        row_ids: Whose the rows are `[n]`, integers.
        column_ids: Whose the columns are `[M]`; those of the row's own subject are no negatives.
        axis_name: Mesh axis over which the rows are split, or None.
    """

    rows: jax.Array
    partners: jax.Array
    columns: jax.Array
    row_ids: jax.Array
    column_ids: jax.Array
    axis_name: str | None

    @property
    def size(self) -> int:
        """Number of rows' embeddings on all devices, A N."""
        devices = 1 if self.axis_name is None else lax.axis_size(self.axis_name)
        return self.rows.shape[0] * self.rows.shape[1] * devices


def gather(x: jax.Array, axis_name: str | None) -> jax.Array:
    """Returns `x [n, ...]` of all devices concatenated to `[N, ...]`."""
    return x if axis_name is None else lax.all_gather(x, axis_name, tiled=True)


def make_pairs(
    rows: jax.Array,
    partners: jax.Array,
    columns: jax.Array,
    row_ids: jax.Array,
    column_ids: jax.Array,
    *,
    axis_name: str | None = None,
) -> Pairs:
    """Returns the pairs of this device's rows with columns that every device has.

    Args:
        rows: This device's embeddings `[A, n, D]`, of any length; they are normalised here.
        partners: What each of them belongs with `[A, n, D]`.
        columns: What the rows are compared with `[B, M, D]`, the same on every device.
        row_ids: Whose the rows are `[n]`, integers.
        column_ids: Whose the columns are `[M]`.
        axis_name: Mesh axis over which the rows are split, inside `shard_map`.

    Raises:
        ValueError: Shapes disagree.
    """
    shapes = {
        "partners": (partners.shape, rows.shape),
        "columns": (columns.shape, (*columns.shape[:2], rows.shape[-1])),
        "row_ids": (row_ids.shape, rows.shape[1:2]),
        "column_ids": (column_ids.shape, columns.shape[1:2]),
    }
    for name, (found, expected) in shapes.items():
        if found != expected:
            raise ValueError(f"{name} must be {list(expected)} beside these, found {list(found)}")
    return Pairs(_unit(rows), _unit(partners), _unit(columns), row_ids, column_ids, axis_name)


def view_pairs(z: jax.Array, axis_name: str | None = None) -> Pairs:
    """Returns the pairs of a global batch's views with each other.

    Args:
        z: This device's embeddings `[2n, D]`, of any length; rows 2i and 2i + 1 are the views of
            subject i, and each other's partners.
        axis_name: Mesh axis over which the global batch is split, inside `shard_map`.

    Raises:
        ValueError: There is an odd number of rows, or fewer than two subjects in all.
    """
    if z.ndim != 2 or z.shape[0] % 2:
        raise ValueError(f"embeddings must be [2N, D] with two rows a subject, found {z.shape}")
    rows = _unit(z).reshape(-1, 2, z.shape[1]).swapaxes(0, 1)
    columns = gather(rows.swapaxes(0, 1), axis_name).swapaxes(0, 1)
    count = columns.shape[1]
    if count < 2:
        raise ValueError("a contrastive loss needs at least two subjects in the global batch")
    ids = jnp.arange(rows.shape[1], dtype=jnp.int32)  # As the index of the device is.
    if axis_name is not None:
        ids = ids + lax.axis_index(axis_name) * ids.size
    return Pairs(rows, rows[::-1], columns, ids, jnp.arange(count, dtype=jnp.int32), axis_name)


def total(sums: Any, pairs: Pairs) -> Any:
    """Returns the sums over all devices of what this device's rows sum to."""
    return sums if pairs.axis_name is None else lax.psum(sums, pairs.axis_name)


def _unit(z: jax.Array) -> jax.Array:
    """Returns embeddings `[..., D]` divided by their length, in float32 or wider."""
    z = z.astype(np.promote_types(z.dtype, jnp.float32))
    return z * lax.rsqrt(jnp.maximum(jnp.sum(z * z, axis=-1, keepdims=True), _TINY_SQUARED_NORM))
