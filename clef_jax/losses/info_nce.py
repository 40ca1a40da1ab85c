"""InfoNCE of rows against any columns: a batch's other views, a queue, texts."""

import jax
import jax.numpy as jnp

from clef_jax.losses.geometry import alignment_and_uniformity
from clef_jax.losses.pairs import Pairs
from clef_jax.losses.tiles import Tile, compare, shifted_logits


def info_nce(
    pairs: Pairs, *, temperature: jax.Array | float
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Returns the mean over rows of -log(e_p / (e_p + sum of e over negatives)), and its parts.

    With e = exp(cosine similarity / temperature); p is the row's partner, and its negatives are all
    columns of other subjects.

    Args:
        pairs: From `losses.pairs.make_pairs` or `view_pairs`.
        temperature: Divides the cosine similarities; it may be learnt.

    Returns:
        The scalar loss and `{"alignment", "uniformity"}`, the same on every device.

    Example:
        >>> from clef_jax.losses.pairs import view_pairs
        >>> z = jax.random.normal(jax.random.key(0), (8, 16))  # Two views of four subjects.
        >>> loss, parts = info_nce(view_pairs(z), temperature=0.1)
        >>> loss.shape, sorted(parts)
        ((), ['alignment', 'uniformity'])

    References:
        van den Oord et al., Representation Learning with Contrastive Predictive Coding, 2018.
    """

    def loss(tile: Tile, temperature: jax.Array) -> jax.Array:
        positive, negatives = shifted_logits(tile, temperature)
        return jnp.log(jnp.exp(positive) + jnp.sum(jnp.exp(negatives), axis=(2, 3))) - positive

    compared = compare(loss, pairs, temperature)
    return compared.loss / pairs.size, alignment_and_uniformity(compared, pairs)
