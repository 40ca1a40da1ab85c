"""Plain InfoNCE (SimCLR): the control without clinical risk."""

import jax
import jax.numpy as jnp
from jax import lax

from clef_jax.losses.pairs import (
    Block,
    alignment_and_uniformity,
    geometry_sums,
    make_pairs,
    map_blocks,
    total,
)


def simclr_loss(
    z: jax.Array, *, temperature: float = 0.07, axis_name: str | None = None
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Returns the normalised-temperature cross-entropy over the global batch, and its parts.

    Args:
        z: Embeddings `[2N, D]` of any length; rows 2i and 2i + 1 are the views of subject i.
        temperature: Divides the cosine similarities.
        axis_name: Mesh axis over which the batch is split, inside `shard_map`.

    Returns:
        The scalar loss and `{"alignment", "uniformity"}`.

    References:
        Chen et al., A Simple Framework for Contrastive Learning of Visual Representations, 2020.
    """
    pairs = make_pairs(z, axis_name)

    def sums(block: Block) -> dict[str, jax.Array]:
        logits = jnp.where(block.self_pair, -jnp.inf, block.similarity / temperature)
        log_partition = jax.nn.logsumexp(logits, axis=(1, 3))
        loss = jnp.sum(log_partition - block.positive[None, :] / temperature)
        return {"loss": loss, **geometry_sums(block)}

    sum_of = total(map_blocks(sums, pairs), pairs)
    parts = alignment_and_uniformity(sum_of, pairs.count)
    return sum_of["loss"] / (2 * pairs.count), jax.tree.map(lax.stop_gradient, parts)
