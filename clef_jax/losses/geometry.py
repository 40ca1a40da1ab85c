"""Two properties of a contrastive embedding, whatever it was trained by."""

import jax
import jax.numpy as jnp
from jax import lax

from clef_jax.losses.pairs import Pairs, total
from clef_jax.losses.tiles import Compared


def alignment_and_uniformity(compared: Compared, pairs: Pairs) -> dict[str, jax.Array]:
    """Returns the two properties, without gradient (Wang and Isola, ICML 2020).

    Alignment is the mean squared distance of the rows from their partners; uniformity is the
    logarithm of the mean of exp(-2 d^2) over the pairs of embeddings of different subjects.
    """
    views = pairs.rows.shape[0] * pairs.columns.shape[0]
    sums = {
        "distance": jnp.sum(2 - 2 * jnp.sum(pairs.rows * pairs.partners, axis=-1)),
        "nearness": jnp.sum(compared.nearness),
        "strangers": views * jnp.sum(compared.strangers.astype(pairs.rows.dtype)),
    }
    sum_of = lax.stop_gradient(total(sums, pairs))
    return {
        "alignment": sum_of["distance"] / pairs.size,
        "uniformity": jnp.log(sum_of["nearness"] / sum_of["strangers"]),
    }
