"""How unlike two subjects are by their clinical risk."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from clef_jax.losses.pairs import gather

# The released code's guard against division by zero.
_MINMAX_EPSILON = 1e-6


class Dissimilarity(NamedTuple):
    """D_ik = scale (r_i - r_k)^2 + floor of subjects of known risk, 0 of a subject to itself.

    Attributes:
        own: r of this device's subjects, their risks less the mean `[n]`, 0 where unknown.
        everyone: The same of all devices' subjects `[N]`.
        own_known: Whether these count as known `[n]`.
        known: Whether those do `[N]`.
        scale: Of squared differences, so that D is at most 1.
        floor: D of two subjects of equal risk.
        unknown: D of a subject of unknown risk to any other.
    """

    own: jax.Array
    everyone: jax.Array
    own_known: jax.Array
    known: jax.Array
    scale: jax.Array
    floor: float
    unknown: jax.Array

    def of(self, rows: jax.Array, same_subject: jax.Array) -> jax.Array:
        """Returns D `[rows, N]` of this device's subjects at the positions `rows` to everyone.

        Args:
            rows: Positions `[rows]`.
            same_subject: Whether these are the very same `[rows, N]`.
        """
        d = self.scale * (self.own[rows][:, None] - self.everyone[None, :]) ** 2 + self.floor
        d = jnp.where(self.own_known[rows][:, None] & self.known[None, :], d, self.unknown)
        return jnp.where(same_subject, 0, d)

    def factors(self) -> tuple[jax.Array, jax.Array]:
        """Returns L and R `[n, 4]` of this device's subjects: D = L R^T but for the diagonal."""
        known, ones = self.own_known.astype(self.own.dtype), jnp.ones_like(self.own)
        square = self.own**2
        excess = self.unknown - self.floor
        left = [
            self.scale * square - excess * known,
            self.scale * known,
            -2 * self.scale * self.own,
            self.unknown * ones,
        ]
        return jnp.stack(left, axis=-1), jnp.stack([known, square, self.own, ones], axis=-1)


def make_dissimilarity(
    risk: jax.Array, axis_name: str | None, floor: float, unknown_risk: str
) -> Dissimilarity:
    """Returns the dissimilarity of the global batch's subjects, from this device's risks `[n]`.

    Args:
        risk: In percent; non-finite where unknown.
        axis_name: Mesh axis over which the batch is split, inside `shard_map`.
        floor: Dissimilarity of two subjects of equal risk.
        unknown_risk: "zero" takes an unknown risk for 0 %; "mean" puts such a subject at the mean
            dissimilarity of the subjects of known risk to everyone.
    """

    def known_of(risk: jax.Array) -> jax.Array:
        return jnp.isfinite(risk) if unknown_risk == "mean" else jnp.ones_like(risk, bool)

    everyone = gather(risk, axis_name)
    known = known_of(everyone)
    count = jnp.sum(known, dtype=risk.dtype)
    mean = jnp.sum(jnp.where(jnp.isfinite(everyone), everyone, 0)) / jnp.maximum(count, 1)

    def centred(risk: jax.Array) -> jax.Array:
        return jnp.where(known_of(risk), jnp.where(jnp.isfinite(risk), risk, 0) - mean, 0)

    r = centred(everyone)
    # The greatest squared difference is that of the extremes, and the least is 0, on the diagonal.
    scale = (1 - floor) / ((jnp.max(r) - jnp.min(r)) ** 2 + _MINMAX_EPSILON)
    # Over the pairs of two different subjects of known risk.
    mean_square = 2 * jnp.sum(r**2) / jnp.maximum(count - 1, 1)
    return Dissimilarity(
        own=centred(risk),
        everyone=r,
        own_known=known_of(risk),
        known=known,
        scale=scale,
        floor=floor,
        unknown=scale * mean_square + floor,
    )
