"""Pairs of embeddings, a tile of rows at a time.

The similarity of 2N embeddings with each other has (2N)^2 entries: 4 GB in float32 at N = 16,384,
several times over with its temporaries. Here a device holds the rows of its own subjects only, and
of those one tile at a time; the backward pass recomputes each tile.

Rows and columns need not be the same embeddings: columns may be a queue's, or texts'. Each side has
a number of views of each subject, A and B, that share everything which depends on the subject; so
pairs are laid out `[A, B, rows, M]` (view of the row, view of the column, row's subject, column's
subject), and per-subject matrices `[rows, M]` broadcast over the views.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# Pairs of subjects in one tile; each of its view combinations is this many float32 (16 MB).
_PAIRS_PER_TILE = 1 << 22
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


class Tile(NamedTuple):
    """Pairs of some rows with all columns.

    Attributes:
        similarity: Cosine similarities `[A, B, rows, M]`.
        positive: Cosine similarities of the rows with their partners `[A, rows]`.
        same_subject: Whether row and column are of one subject `[rows, M]`.
        rows: The rows' positions among this device's `[rows]`.
    """

    similarity: jax.Array
    positive: jax.Array
    same_subject: jax.Array
    rows: jax.Array


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


def map_tiles(function: Callable[[Tile], Any], pairs: Pairs) -> Any:
    """Returns `function` of every tile of this device's rows, stacked along a new first axis.

    Tiles are as few as fit; the last has fewer rows where the others leave fewer.
    """
    own = pairs.row_ids.size
    fitting = max(_PAIRS_PER_TILE // pairs.column_ids.size, 1)
    size = -(-own // -(-own // fitting))
    equal = own // size * size

    def of_tile(part: tuple[jax.Array, ...]) -> Any:
        rows, partners, ids, positions = part
        similarity = jnp.einsum(
            "aid,bkd->abik", rows, pairs.columns, precision=lax.Precision.HIGHEST
        )
        return function(
            Tile(
                similarity=similarity,
                positive=jnp.sum(rows * partners, axis=-1),
                same_subject=ids[:, None] == pairs.column_ids[None, :],
                rows=positions,
            )
        )

    def mapped(part: slice, tiles: int) -> Any:
        def split(x: jax.Array) -> jax.Array:
            return x[:, part].reshape(x.shape[0], tiles, -1, *x.shape[2:]).swapaxes(0, 1)

        ids, positions = pairs.row_ids[part], jnp.arange(own)[part]
        whose, where = ids.reshape(tiles, -1), positions.reshape(tiles, -1)
        parts = split(pairs.rows), split(pairs.partners), whose, where
        return lax.map(jax.checkpoint(of_tile), parts)

    found = mapped(slice(equal), equal // size)
    if equal == own:
        return found
    rest = mapped(slice(equal, own), 1)
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), found, rest)


def shifted_logits(tile: Tile, temperature: float) -> tuple[jax.Array, jax.Array]:
    """Returns similarities over temperature, less the greatest of each row, so that exp is safe.

    Those of the rows with their partners `[A, rows]`, and with all columns `[A, B, rows, M]`, -inf
    where the column is of the row's own subject.
    """
    positive = tile.positive / temperature
    negatives = jnp.where(tile.same_subject[None, None], -jnp.inf, tile.similarity / temperature)
    greatest = lax.stop_gradient(jnp.maximum(positive, jnp.max(negatives, axis=(1, 3))))
    return positive - greatest, negatives - greatest[:, None, :, None]


def total(tiles: Any, pairs: Pairs) -> Any:
    """Returns the sum over tiles and devices of what `map_tiles` gave for scalars."""
    sums = jax.tree.map(jnp.sum, tiles)
    return sums if pairs.axis_name is None else lax.psum(sums, pairs.axis_name)


def geometry_sums(tile: Tile) -> dict[str, jax.Array]:
    """Returns the tile's share of `alignment_and_uniformity`, as sums over pairs."""
    near = jnp.where(tile.same_subject[None, None], 0, jnp.exp(4 * (tile.similarity - 1)))
    views = tile.similarity.shape[0] * tile.similarity.shape[1]
    return {
        "distance": jnp.sum(2 - 2 * tile.positive),
        "nearness": jnp.sum(near),
        "strangers": views * jnp.sum(~tile.same_subject, dtype=near.dtype),
    }


def alignment_and_uniformity(sums: dict[str, jax.Array], pairs: Pairs) -> dict[str, jax.Array]:
    """Returns the two properties of a contrastive embedding (Wang and Isola, ICML 2020).

    Alignment is the mean squared distance of the rows from their partners; uniformity is the
    logarithm of the mean of exp(-2 d^2) over the pairs of embeddings of different subjects.
    """
    sums = jax.tree.map(lax.stop_gradient, sums)
    return {
        "alignment": sums["distance"] / pairs.size,
        "uniformity": jnp.log(sums["nearness"] / sums["strangers"]),
    }


def _unit(z: jax.Array) -> jax.Array:
    """Returns embeddings `[..., D]` divided by their length, in float32 or wider."""
    z = z.astype(np.promote_types(z.dtype, jnp.float32))
    return z * lax.rsqrt(jnp.maximum(jnp.sum(z * z, axis=-1, keepdims=True), _TINY_SQUARED_NORM))
