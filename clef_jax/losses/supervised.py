"""What heads are trained by: pure functions of outputs and targets, means over the global batch.

A target that is not known is NaN and counts nowhere, so that one label may be known of a row and
another not, and rows that only fill a batch up are rows of which nothing is known.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

# Below this variance, in standardised targets, a Gaussian is no surer of itself.
_LEAST_VARIANCE = 1e-6


def binary_cross_entropy(
    logits: jax.Array,
    targets: jax.Array,
    *,
    positive_weight: ArrayLike | None = None,
    focus: float = 0.0,
    axis_name: str | None = None,
) -> jax.Array:
    """Returns the mean cross-entropy of the known labels, each of them asked for by itself.

    Args:
        logits: `[n, L]`.
        targets: `[n, L]`, 0, 1 or, not known, NaN.
        positive_weight: `[L]`, how often a positive counts; once by default.
        focus: Exponent of the focal loss, from 1 on, which counts a label by how wrong its
            probability is to that power; 0 for the plain loss.
        axis_name: Mesh axis over which the batch is split, inside `shard_map`.

    References:
        Lin et al., Focal Loss for Dense Object Detection, 2017.
    """
    known, targets = _known(targets)
    # Of whatever was so, the logit of its being otherwise.
    wrong = logits * (1 - 2 * targets)
    values = jax.nn.softplus(wrong)
    if focus:
        values = values * jax.nn.sigmoid(wrong) ** focus
    if positive_weight is not None:
        weight = jnp.asarray(positive_weight, logits.dtype)[None]
        values = values * (1 + (weight - 1) * targets)
    return _mean(values, known, axis_name)


def cross_entropy(
    logits: jax.Array,
    targets: jax.Array,
    *,
    class_weight: ArrayLike | None = None,
    focus: float = 0.0,
    axis_name: str | None = None,
) -> jax.Array:
    """Returns the mean cross-entropy of the known classes, of which a row has one.

    Args:
        logits: `[n, k]`.
        targets: `[n]`, the number of the class, 0 to k - 1, or NaN.
        class_weight: `[k]`, how often a row of each class counts; once by default.
        focus: As in `binary_cross_entropy`.
        axis_name: Mesh axis over which the batch is split, inside `shard_map`.
    """
    known, targets = _known(targets)
    numbers = targets.astype(jnp.int32)
    log_probability = jax.nn.log_softmax(logits)
    of_class = jnp.take_along_axis(log_probability, numbers[:, None], axis=1)[:, 0]
    values = -of_class
    if focus:
        values = values * (-jnp.expm1(of_class)) ** focus
    if class_weight is not None:
        known = known * jnp.asarray(class_weight, logits.dtype)[numbers]
    return _mean(values, known, axis_name)


def absolute_error(
    found: jax.Array, targets: jax.Array, *, axis_name: str | None = None
) -> jax.Array:
    """Returns the mean distance of `found [n, L]` from the known targets `[n, L]`."""
    known, targets = _known(targets)
    return _mean(jnp.abs(found - targets), known, axis_name)


def huber(
    found: jax.Array, targets: jax.Array, *, corner: float = 1.0, axis_name: str | None = None
) -> jax.Array:
    """Returns the mean Huber loss of the known targets: a parabola, from `corner` on a line."""
    known, targets = _known(targets)
    distance = jnp.abs(found - targets)
    near = jnp.minimum(distance, corner)
    return _mean(near * (distance - near / 2), known, axis_name)


def gaussian(
    mean: jax.Array, log_variance: jax.Array, targets: jax.Array, *, axis_name: str | None = None
) -> jax.Array:
    """Returns the mean negative log-likelihood of the known targets, without its constant.

    Args:
        mean: Of each target's Gaussian `[n, L]`.
        log_variance: The logarithm of its variance `[n, L]`.
        targets: `[n, L]`, NaN where not known.
        axis_name: Mesh axis over which the batch is split, inside `shard_map`.
    """
    known, targets = _known(targets)
    log_variance = jnp.maximum(log_variance, math.log(_LEAST_VARIANCE))
    values = (log_variance + (mean - targets) ** 2 * jnp.exp(-log_variance)) / 2
    return _mean(values, known, axis_name)


def _known(targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns 1 for every known target, else 0, and the targets with 0 for the others."""
    known = jnp.isfinite(targets)
    return known.astype(targets.dtype), jnp.where(known, targets, 0)


def _mean(values: jax.Array, weight: jax.Array, axis_name: str | None) -> jax.Array:
    """Returns the weighted mean over the global batch; 0 where nothing has weight."""
    sums = jnp.sum(values * weight), jnp.sum(weight)
    total, count = sums if axis_name is None else lax.psum(sums, axis_name)
    return total / jnp.where(count > 0, count, 1)
