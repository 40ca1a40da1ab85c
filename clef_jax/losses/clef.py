"""CLEF's loss: contrastive learning in which clinical risk weights the negative pairs."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

from clef_jax.losses.pairs import (
    Pairs,
    Tile,
    alignment_and_uniformity,
    gather,
    geometry_sums,
    map_tiles,
    shifted_logits,
    total,
    view_pairs,
)

PRESETS = {
    # What the released training code computes.
    "released": {
        "weighting": "softmax",
        "completeness_weighting": False,
        "unknown_risk": "zero",
        "combine": "mean",
    },
    # What the paper's reviews describe (arXiv 2512.02180).
    "paper": {
        "weighting": "direct",
        "completeness_weighting": True,
        "unknown_risk": "mean",
        "combine": "sum",
    },
}

# The released code's guards against division by zero and the logarithm of zero.
_MINMAX_EPSILON = 1e-6
_LOG_EPSILON = 1e-8


def clef_loss(
    z: jax.Array,
    risk: jax.Array,
    completeness: jax.Array | None = None,
    *,
    temperature: float = 0.07,
    floor: float = 0.2,
    weighting: Literal["softmax", "direct"] = "softmax",
    completeness_weighting: bool = False,
    unknown_risk: Literal["zero", "mean"] = "zero",
    combine: Literal["mean", "sum"] = "mean",
    axis_name: str | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Returns the risk-weighted contrastive loss over the global batch, and its parts.

    With S the cosine similarities, r the risks and q_ik = (r_i - r_k)^2 scaled to [0, 1] over the
    batch, the dissimilarity of two subjects is D = (1 - floor) q + floor, and 0 of a subject to
    itself. The contrastive part is InfoNCE whose negatives are weighted by w(D); the dissimilarity
    part is the mean squared difference of S, scaled to [0, 1] over the batch, and 1 - D.
    `PRESETS` holds the choices of the released code (the defaults) and of the paper.

    Args:
        z: Embeddings `[2N, D]` of any length; rows 2i and 2i + 1 are the views of subject i.
        risk: Risk of each subject `[N]` in percent; non-finite where unknown.
        completeness: Share of each subject's risk attributes that was recorded `[N]`, in [0, 1];
            non-finite counts as 0. Needed with `completeness_weighting` only.
        temperature: Divides the cosine similarities.
        floor: Dissimilarity of two subjects of equal risk.
        weighting: "softmax" normalises D along each row over 2N entries, "direct" uses it as is.
        completeness_weighting: Multiply the weights by exp(-c_i c_k).
        unknown_risk: "zero" takes an unknown risk for 0 %; "mean" puts such a subject at the mean
            dissimilarity of the subjects of known risk to everyone.
        combine: Whether the loss is the "mean" or the "sum" of its two parts.
        axis_name: Mesh axis over which the batch is split, inside `shard_map`; then arguments are
            this device's rows, and the result is the same on all devices.

    Returns:
        The scalar loss and `{"contrastive", "dissimilarity", "alignment", "uniformity"}`.

    Raises:
        ValueError: Shapes disagree, or completeness is needed and absent.

    Example:
        >>> z = jax.random.normal(jax.random.key(0), (8, 16))  # Two views of four subjects.
        >>> risk = jnp.array([2.0, 5.5, 11.0, jnp.nan])
        >>> loss, parts = clef_loss(z, risk, **PRESETS["released"])
        >>> loss.shape, sorted(parts)
        ((), ['alignment', 'contrastive', 'dissimilarity', 'uniformity'])

    References:
        CLEF, arXiv 2512.02180.
    """
    _require_subjects(len(z) // 2, risk, completeness, completeness_weighting)
    pairs = view_pairs(z, axis_name)
    dissimilarity = _make_dissimilarity(risk, axis_name, floor, unknown_risk)
    weights = _make_weights(completeness if completeness_weighting else None, axis_name, weighting)
    s_min, s_max = _similarity_range(pairs)

    def sums(tile: Tile) -> dict[str, jax.Array]:
        d = dissimilarity(tile)
        positive, negatives = shifted_logits(tile, temperature)
        weighted = jnp.sum(weights(d, tile)[None, None] * jnp.exp(negatives), axis=(1, 3))
        contrastive = jnp.log(jnp.exp(positive) + weighted + _LOG_EPSILON) - positive
        scaled = (tile.similarity - s_min) / (s_max - s_min + _MINMAX_EPSILON)
        return {
            "contrastive": jnp.sum(contrastive),
            "dissimilarity": jnp.sum((scaled - (1 - d)[None, None]) ** 2),
            **geometry_sums(tile),
        }

    sum_of = total(map_tiles(sums, pairs), pairs)
    contrastive = sum_of["contrastive"] / pairs.size
    mismatch = sum_of["dissimilarity"] / pairs.size**2
    loss = (contrastive + mismatch) / (2 if combine == "mean" else 1)
    parts = {"contrastive": contrastive, "dissimilarity": mismatch}
    parts |= alignment_and_uniformity(sum_of, pairs)
    return loss, jax.tree.map(lax.stop_gradient, parts)


def _require_subjects(
    subjects: int, risk: jax.Array, completeness: jax.Array | None, completeness_weighting: bool
) -> None:
    if risk.shape != (subjects,):
        raise ValueError(f"risk must be [{subjects}], one a subject, found {risk.shape}")
    if completeness_weighting and completeness is None:
        raise ValueError("completeness_weighting needs the subjects' completeness")


def _similarity_range(pairs: Pairs) -> tuple[jax.Array, jax.Array]:
    """Returns the least and the greatest similarity of the global batch, differentiably."""

    def extremes(tile: Tile) -> tuple[jax.Array, jax.Array]:
        return jnp.min(tile.similarity), jnp.max(tile.similarity)

    lows, highs = map_tiles(extremes, pairs)
    # pmin and pmax have no gradient; the minimum of gathered minima has.
    low, high = (gather(a[None], pairs.axis_name) for a in (lows.min(), highs.max()))
    return low.min(), high.max()


def _make_dissimilarity(
    own: jax.Array, axis_name: str | None, floor: float, unknown_risk: str
) -> Callable[[Tile], jax.Array]:
    """Returns the function (tile) -> D `[rows, N]`, from this device's risks `[n]`."""
    risk = gather(own, axis_name)
    known, own_known = jnp.isfinite(risk), jnp.isfinite(own)
    mean: jax.Array | float = 0.0
    # The greatest squared difference is that of the extremes, and the least is 0, on the diagonal.
    if unknown_risk == "mean":
        count = jnp.sum(known, dtype=risk.dtype)
        mean = jnp.sum(jnp.where(known, risk, 0)) / jnp.maximum(count, 1)
    own, risk = (jnp.where(jnp.isfinite(r), r - mean, 0) for r in (own, risk))
    spread = jnp.max(risk) - jnp.min(risk)
    scale = (1 - floor) / (spread**2 + _MINMAX_EPSILON)

    def dissimilarity(tile: Tile) -> jax.Array:
        d = scale * (own[tile.rows][:, None] - risk[None, :]) ** 2 + floor
        if unknown_risk == "mean":
            # Over the pairs of two different subjects of known risk.
            mean_square = 2 * jnp.sum(risk**2) / jnp.maximum(count - 1, 1)
            both_known = own_known[tile.rows][:, None] & known[None, :]
            d = jnp.where(both_known, d, scale * mean_square + floor)
        return jnp.where(tile.same_subject, 0, d)

    return dissimilarity


def _make_weights(
    own: jax.Array | None, axis_name: str | None, weighting: str
) -> Callable[[jax.Array, Tile], jax.Array]:
    """Returns the function (D, tile) -> weights of the negatives `[rows, N]`.

    From this device's completeness `[n]`, if that counts.
    """
    if own is not None:
        own = jnp.nan_to_num(own, nan=0, posinf=0, neginf=0)
        columns = gather(own, axis_name)

    def weights(d: jax.Array, tile: Tile) -> jax.Array:
        if weighting == "softmax":
            # Every subject stands twice in a row of 2N entries; D is at most 1, so exp is safe.
            d = jnp.exp(d) / (2 * jnp.sum(jnp.exp(d), axis=1, keepdims=True))
        if own is not None:
            d = d * jnp.exp(-own[tile.rows][:, None] * columns[None, :])
        return d

    return weights
