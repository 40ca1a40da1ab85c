"""A loss over all pairs and its gradient in one pass, a tile of rows at a time.

The similarity of 2N embeddings with each other has (2N)^2 entries: 4 GB in float32 at N = 16,384,
several times over with its temporaries. Here a device goes through the rows of its own subjects
only, and of those through one tile at a time. A row's loss depends on nothing but its own
similarities and a tile has them all, so it knows their gradient at once and nothing is computed
again: three products of rows, columns and D with the gradient, and one without.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from clef_jax.losses.pairs import Pairs, total

# Pairs of subjects in one tile; each of its view combinations is this many float32 (16 MB).
_PAIRS_PER_TILE = 1 << 22
# Similarities are divided by a temperature, and by their range, which shows every bit. Fewer bits
# of the gradient would do on a TPU (three products of bfloat16 instead of six come as near to the
# exact one), but the same word means eleven bits on a GPU.
_PRECISION = lax.Precision.HIGHEST


class Tile(NamedTuple):
    """Pairs of some rows with all columns.

    Attributes:
        similarity: Cosine similarities `[rows, A, B, M]`.
        positive: Cosine similarities of the rows with their partners `[rows, A]`.
        same_subject: Whether row and column are of one subject `[rows, M]`.
        rows: The rows' positions among this device's `[rows]`.
    """

    similarity: jax.Array
    positive: jax.Array
    same_subject: jax.Array
    rows: jax.Array


class Compared(NamedTuple):
    """What comes of comparing all rows with all columns.

    Attributes:
        loss: The sum of the rows' losses on all devices, differentiable once.
        least: The least similarity of each of this device's rows `[n, A]`.
        strangers: The number of columns' subjects that are not each row's own `[n]`.
        nearness: The sum of exp(-2 d^2) over these subjects' columns, of each row `[n, A]`.
    """

    loss: jax.Array
    least: jax.Array
    strangers: jax.Array
    nearness: jax.Array


def compare(
    loss: Callable[[Tile, jax.Array], jax.Array], pairs: Pairs, temperature: jax.Array | float
) -> Compared:
    """Compares all rows with all columns.

    Tiles are as few as fit; the first has what the others leave.

    Args:
        loss: Gives the loss `[rows, A]` of the rows of a tile at a temperature. Gradients reach
            embeddings and temperature, and nothing else that it makes use of.
        pairs: What to compare.
        temperature: A scalar, which may be learnt, the same on every device.
    """
    rows = pairs.rows.swapaxes(0, 1)
    positive = jnp.sum(pairs.rows * pairs.partners, axis=-1).T
    # Each device's gradient is that of its own rows: the sum marks it as differing like these.
    temperature = jnp.asarray(temperature, rows.dtype) + 0 * lax.stop_gradient(positive[0, 0])
    inputs = rows, positive, pairs.columns, temperature
    *of_rows, columns, temperature = lax.stop_gradient(inputs)

    def compare_tile(
        rows: jax.Array, positive: jax.Array, ids: jax.Array, positions: jax.Array
    ) -> tuple[Any, tuple[jax.Array, jax.Array]]:
        same_subject = ids[:, None] == pairs.column_ids[None, :]

        def loss_of(
            similarity: jax.Array, positive: jax.Array, temperature: jax.Array
        ) -> jax.Array:
            return jnp.sum(loss(Tile(similarity, positive, same_subject, positions), temperature))

        similarity = jnp.einsum("iad,bkd->iabk", rows, columns, precision=_PRECISION)
        value, (pull, pull_of_partners, of_temperature) = jax.value_and_grad(loss_of, (0, 1, 2))(
            similarity, positive, temperature
        )
        near = jnp.where(same_subject[:, None, None], 0, jnp.exp(4 * (similarity - 1)))
        seen = {
            "loss": value[None],
            "least": jnp.min(similarity, axis=(2, 3)),
            "strangers": jnp.sum(~same_subject, axis=1),
            "nearness": jnp.sum(near, axis=(2, 3)),
            "gradient": (
                jnp.einsum("iabk,bkd->iad", pull, columns, precision=_PRECISION),
                pull_of_partners,
            ),
        }
        of_columns = jnp.einsum("iabk,iad->bkd", pull, rows, precision=_PRECISION)
        return seen, (of_columns, of_temperature)

    own = pairs.row_ids.size
    fitting = max(_PAIRS_PER_TILE // pairs.column_ids.size, 1)
    tiles = -(-own // fitting)
    size = -(-own // tiles)
    start = own - (tiles - 1) * size
    by_row = (*of_rows, pairs.row_ids, jnp.arange(own))
    first, sums = compare_tile(*(x[:start] for x in by_row))

    def proceed(sums: Any, part: tuple[jax.Array, ...]) -> tuple[Any, Any]:
        seen, more = compare_tile(*part)
        return jax.tree.map(jnp.add, sums, more), seen

    parts = tuple(x[start:].reshape(tiles - 1, size, *x.shape[1:]) for x in by_row)
    sums, others = lax.scan(proceed, sums, parts)

    def join(first: jax.Array, others: jax.Array) -> jax.Array:
        return jnp.concatenate([first, others.reshape(-1, *first.shape[1:])])

    seen = jax.tree.map(join, first, others)
    value = jnp.sum(seen.pop("loss"))
    loss_sum = _with_gradient(value, inputs, (*seen.pop("gradient"), *sums))
    return Compared(loss=total(loss_sum, pairs), **seen)


def shifted_logits(tile: Tile, temperature: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns similarities over temperature, less the greatest of each row, so that exp is safe.

    Those of the rows with their partners `[rows, A]`, and with all columns `[rows, A, B, M]`, -inf
    where the column is of the row's own subject.
    """
    same_subject = tile.same_subject[:, None, None]
    positive = tile.positive / temperature
    negatives = jnp.where(same_subject, -jnp.inf, tile.similarity / temperature)
    greatest = lax.stop_gradient(jnp.maximum(positive, jnp.max(negatives, axis=(2, 3))))
    return positive - greatest, negatives - greatest[:, :, None, None]


@jax.custom_jvp
def _with_gradient(
    value: jax.Array, inputs: tuple[jax.Array, ...], gradient: tuple[jax.Array, ...]
) -> jax.Array:
    """Returns `value`, a function of `inputs` whose gradient there is known."""
    del inputs, gradient
    return value


@_with_gradient.defjvp
def _directional(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    value, _, gradient = primals
    _, directions, _ = tangents
    parts = [jnp.sum(g * t) for g, t in zip(gradient, directions, strict=True)]
    return value, jnp.sum(jnp.stack(parts))
