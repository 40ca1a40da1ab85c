"""All pairs of a global batch's embeddings, a block of rows at a time.

The similarity of 2N embeddings has (2N)^2 entries: 4 GB in float32 at N = 16,384, several times
over with its temporaries. Here a device holds the rows of its own subjects only, and of those one
block at a time; the backward pass recomputes each block. Both views of a subject share everything
that depends on risk, so pairs are laid out `[2, 2, rows, N]` (view of the row, view of the column,
row's subject, column's subject) and per-subject matrices `[rows, N]` broadcast over the views.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# Pairs of subjects in one block; each of its four view combinations is this many float32 (16 MB).
_PAIRS_PER_BLOCK = 1 << 22
# Below this squared norm a row counts as zero: its similarities are 0 and its gradient is finite.
_TINY_SQUARED_NORM = 1e-12


class Block(NamedTuple):
    """Pairs of some rows with all columns.

    Attributes:
        similarity: Cosine similarities `[2, 2, rows, N]`.
        positive: Cosine similarity of the rows' own two views `[rows]`.
        same_subject: Whether row and column are one subject `[rows, N]`.
        self_pair: Whether they are even one embedding `[2, 2, rows, N]`.
        subjects: Global indices of the rows' subjects `[rows]`.
    """

    similarity: jax.Array
    positive: jax.Array
    same_subject: jax.Array
    self_pair: jax.Array
    subjects: jax.Array


class Pairs(NamedTuple):
    """This device's rows and everyone's columns, unit length: `[2, n, D]` and `[2, N, D]`."""

    rows: jax.Array
    columns: jax.Array
    subjects: jax.Array
    axis_name: str | None

    @property
    def count(self) -> int:
        """Number N of subjects in the global batch."""
        return self.columns.shape[1]


def gather(x: jax.Array, axis_name: str | None) -> jax.Array:
    """Returns `x [n, ...]` of all devices concatenated to `[N, ...]`."""
    return x if axis_name is None else lax.all_gather(x, axis_name, tiled=True)


def make_pairs(z: jax.Array, axis_name: str | None) -> Pairs:
    """Returns the pairs of embeddings `z [2n, D]`, whose rows 2i and 2i + 1 are subject i's views.

    Args:
        z: This device's embeddings, of any length; they are normalised here.
        axis_name: Mesh axis over which the global batch is split, or None on one device.

    Raises:
        ValueError: There is an odd number of rows, or fewer than two subjects in all.
    """
    if z.ndim != 2 or z.shape[0] % 2:
        raise ValueError(f"embeddings must be [2N, D] with two rows a subject, found {z.shape}")
    z = z.astype(np.promote_types(z.dtype, jnp.float32))
    z = z * lax.rsqrt(jnp.maximum(jnp.sum(z * z, axis=1, keepdims=True), _TINY_SQUARED_NORM))
    subjects = jnp.arange(z.shape[0] // 2)
    if axis_name is not None:
        subjects = subjects + lax.axis_index(axis_name) * subjects.size
    rows = z.reshape(-1, 2, z.shape[1]).swapaxes(0, 1)
    columns = gather(z, axis_name).reshape(-1, 2, z.shape[1]).swapaxes(0, 1)
    if columns.shape[1] < 2:
        raise ValueError("a contrastive loss needs at least two subjects in the global batch")
    return Pairs(rows, columns, subjects, axis_name)


def map_blocks(function: Callable[[Block], Any], pairs: Pairs) -> Any:
    """Returns `function` of every block of this device's rows, stacked along a new first axis.

    Blocks are as few as fit; the last has fewer rows where the others leave fewer.
    """
    own = pairs.subjects.size
    fitting = max(_PAIRS_PER_BLOCK // pairs.count, 1)
    size = -(-own // -(-own // fitting))
    equal = own // size

    def of_block(block):
        rows, subjects = block
        similarity = jnp.einsum(
            "aid,bkd->abik", rows, pairs.columns, precision=lax.Precision.HIGHEST
        )
        same_subject = subjects[:, None] == jnp.arange(pairs.count)[None, :]
        same_view = jnp.eye(2, dtype=bool)[:, :, None, None]
        return function(
            Block(
                similarity=similarity,
                positive=jnp.sum(rows[0] * rows[1], axis=-1),
                same_subject=same_subject,
                self_pair=same_view & same_subject[None, None],
                subjects=subjects,
            )
        )

    def mapped(part: slice, count: int) -> Any:
        rows, subjects = pairs.rows[:, part], pairs.subjects[part]
        rows = rows.reshape(2, count, -1, rows.shape[2]).swapaxes(0, 1)
        return lax.map(jax.checkpoint(of_block), (rows, subjects.reshape(count, -1)))

    found = mapped(slice(equal * size), equal)
    if equal * size == own:
        return found
    rest = mapped(slice(equal * size, own), 1)
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), found, rest)


def total(blocks: Any, pairs: Pairs) -> Any:
    """Returns the sum over blocks and devices of what `map_blocks` gave for scalars."""
    sums = jax.tree.map(jnp.sum, blocks)
    return sums if pairs.axis_name is None else lax.psum(sums, pairs.axis_name)


def geometry_sums(block: Block) -> dict[str, jax.Array]:
    """Returns the block's share of alignment and of uniformity's mean, as sums over pairs."""
    nearness = jnp.where(block.same_subject[None, None], 0, jnp.exp(4 * (block.similarity - 1)))
    return {"alignment": jnp.sum(2 - 2 * block.positive), "nearness": jnp.sum(nearness)}


def alignment_and_uniformity(sums: dict[str, jax.Array], count: int) -> dict[str, jax.Array]:
    """Returns the two properties of a contrastive embedding (Wang and Isola, ICML 2020).

    Alignment is the mean squared distance of a subject's two views; uniformity is the logarithm
    of the mean of exp(-2 d^2) over the pairs of embeddings of different subjects.
    """
    sums = jax.tree.map(lax.stop_gradient, sums)
    return {
        "alignment": sums["alignment"] / count,
        "uniformity": jnp.log(sums["nearness"] / (4 * count * (count - 1))),
    }
