"""SimCLR's loss: the control without clinical risk."""

import jax

from clef_jax.losses.info_nce import info_nce
from clef_jax.losses.pairs import view_pairs


def simclr_loss(
    z: jax.Array, *, temperature: jax.Array | float = 0.07, axis_name: str | None = None
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Returns the normalised-temperature cross-entropy over the global batch, and its parts.

    Args:
        z: Embeddings `[2N, D]` of any length; rows 2i and 2i + 1 are the views of subject i.
        temperature: Divides the cosine similarities; it may be learnt.
        axis_name: Mesh axis over which the batch is split, inside `shard_map`.

    Returns:
        The scalar loss and `{"alignment", "uniformity"}`.

    Raises:
        ValueError: There is an odd number of rows, or fewer than two subjects in all.

    Example:
        >>> z = jax.random.normal(jax.random.key(0), (8, 16))  # Two views of four subjects.
        >>> loss, parts = simclr_loss(z)
        >>> loss.shape, sorted(parts)
        ((), ['alignment', 'uniformity'])

    References:
        Chen et al., A Simple Framework for Contrastive Learning of Visual Representations, 2020.
    """
    return info_nce(view_pairs(z, axis_name), temperature=temperature)
