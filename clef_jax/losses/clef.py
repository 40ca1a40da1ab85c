"""CLEF's loss: contrastive learning in which clinical risk weights the negative pairs."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

from clef_jax.losses.dissimilarity import Dissimilarity, make_dissimilarity
from clef_jax.losses.geometry import alignment_and_uniformity
from clef_jax.losses.pairs import Pairs, gather, total, view_pairs
from clef_jax.losses.tiles import Tile, compare, shifted_logits

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
    temperature: jax.Array | float = 0.07,
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
        risk: Risk of each subject `[N]` in percent; non-finite where unknown. No gradient.
        completeness: Share of each subject's risk attributes that was recorded `[N]`, in [0, 1];
            non-finite counts as 0. Needed with `completeness_weighting` only.
        temperature: Divides the cosine similarities; it may be learnt.
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
    risk, completeness = lax.stop_gradient((risk, completeness))
    dissimilarity = make_dissimilarity(risk, axis_name, floor, unknown_risk)
    weights = _make_weights(completeness if completeness_weighting else None, axis_name, weighting)

    def weighted_info_nce(tile: Tile, temperature: jax.Array) -> jax.Array:
        weight = weights(dissimilarity.of(tile.rows, tile.same_subject), tile)
        positive, negatives = shifted_logits(tile, temperature)
        weighted = jnp.sum(weight[:, None, None] * jnp.exp(negatives), axis=(2, 3))
        return jnp.log(jnp.exp(positive) + weighted + _LOG_EPSILON) - positive

    compared = compare(weighted_info_nce, pairs, temperature)
    contrastive = compared.loss / pairs.size
    mismatch = _mismatch(pairs, dissimilarity, *_similarity_range(pairs, compared.least))
    loss = (contrastive + mismatch) / (2 if combine == "mean" else 1)
    parts = lax.stop_gradient({"contrastive": contrastive, "dissimilarity": mismatch})
    return loss, parts | alignment_and_uniformity(compared, pairs)


def _require_subjects(
    subjects: int, risk: jax.Array, completeness: jax.Array | None, completeness_weighting: bool
) -> None:
    if risk.shape != (subjects,):
        raise ValueError(f"risk must be [{subjects}], one a subject, found {risk.shape}")
    if completeness_weighting and completeness is None:
        raise ValueError("completeness_weighting needs the subjects' completeness")


def _similarity_range(pairs: Pairs, least: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the least and the greatest similarity of the global batch, differentiably.

    From the least similarity of each of this device's rows `[n, A]`.
    """
    rows = pairs.rows.swapaxes(0, 1)
    row = rows.reshape(-1, rows.shape[-1])[jnp.argmin(least)]
    low = jnp.min(jnp.einsum("d,bkd->bk", row, pairs.columns, precision=lax.Precision.HIGHEST))
    # No two embeddings are more alike than one of them and itself, by Cauchy and Schwarz.
    high = jnp.max(jnp.sum(rows**2, axis=-1))
    # pmin and pmax have no gradient; the minimum of gathered minima has.
    lows, highs = (gather(a[None], pairs.axis_name) for a in (low, high))
    return jnp.min(lows), jnp.max(highs)


def _mismatch(
    pairs: Pairs, dissimilarity: Dissimilarity, low: jax.Array, high: jax.Array
) -> jax.Array:
    """Returns the mean over all pairs of (S' - (1 - D))^2, S' = (S - low) / (high - low).

    But for pairs of one subject S' - (1 - D) is the product L R^T of narrow matrices, and its sum
    of squares the inner product of L^T L and R^T R, so that no pair is looked at.
    """
    # About their mean, as embeddings that are all alike would cancel to nothing:
    # S_ik = y_i y_k + p_i + p_k + |mean|^2 with y = z - mean and p = y mean, whatever the mean.
    mean = lax.stop_gradient(total(jnp.sum(pairs.rows, axis=(0, 1)), pairs) / pairs.size)
    y = pairs.rows - mean[None, None]
    p = jnp.sum(y * mean[None, None], axis=-1, keepdims=True)
    ones = jnp.ones_like(p)
    # S' - 1 = scale (S - high - epsilon).
    scale = 1 / (high - low + _MINMAX_EPSILON)
    offset = jnp.sum(mean**2) - high - _MINMAX_EPSILON
    d_left, d_right = dissimilarity.factors()
    left = _beside(scale * y, scale * (p + offset), scale * ones, d_left)
    right = _beside(y, ones, p, d_right)

    def product(equation: str, a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.einsum(equation, a, b, precision=lax.Precision.HIGHEST)

    grams = total([product("aip,aiq->pq", x, x) for x in (left, right)], pairs)
    of_one_subject = product("aip,bip->abi", left, right)
    without_d = of_one_subject - jnp.sum(d_left * d_right, axis=-1)[None, None]
    correction = total(jnp.sum(without_d**2 - of_one_subject**2), pairs)
    return (jnp.sum(grams[0] * grams[1]) + correction) / pairs.size**2


def _beside(*parts: jax.Array) -> jax.Array:
    """Returns parts `[A, n, …]` or `[n, …]` side by side."""
    views, own = parts[0].shape[:2]
    return jnp.concatenate(
        [jnp.broadcast_to(part, (views, own, part.shape[-1])) for part in parts], axis=-1
    )


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
