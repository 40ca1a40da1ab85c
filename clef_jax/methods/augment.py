"""Augmentation on the device: real noise, a zeroed run, z-score. A pure function of its keys."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import lax

from clef_jax.ops.zscore import zscore

# Probability of each of: no noise, and the four kinds of `data.noise.bank.NoiseBank`.
_CHOICES = 5
_NOISE_SD_MV = 0.1
_MASK_PROBABILITY = 0.2
_MASK_SHARE = (0.1, 0.3)
_SD_EPSILON = 1e-8


def augment_view(key: jax.Array, x_mv: jax.Array, lead: jax.Array, noise: jax.Array) -> jax.Array:
    """Returns one augmented, z-scored view.

    With probability 4/5 a random stretch of one kind of noise is added, as recorded in the view's
    own lead, scaled to a standard deviation of 0.1 mV with its mean kept. With probability 0.2 a
    random run of 10 to 30 % of the samples is then set to zero.

    Args:
        key: Random key of this view.
        x_mv: One lead `[T]` in mV.
        lead: Its id in the shards' montage, an integer scalar.
        noise: The bank on that montage `[4, leads, M]` in any unit, M >= T, at the rate of `x_mv`.
    """
    samples = x_mv.shape[-1]
    kind_key, noise_key, mask_key, length_key, start_key = jax.random.split(key, 5)

    kind = jax.random.randint(kind_key, (), 0, _CHOICES)
    start = jax.random.randint(noise_key, (), 0, noise.shape[-1] - samples + 1)
    origin = (jnp.maximum(kind - 1, 0), lead, start)
    stretch = lax.dynamic_slice(noise, origin, (1, 1, samples))[0, 0]
    # A TPU's registers hold 8 rows of 128: here, and where views part, the barriers keep the
    # compiler from carrying a shape with an axis of 1 or 2 on, of which few rows would be filled.
    stretch = lax.optimization_barrier(stretch).astype(x_mv.dtype)
    gain = jnp.where(kind > 0, _NOISE_SD_MV / (jnp.std(stretch) + _SD_EPSILON), 0)
    x_mv = x_mv + gain * stretch

    masked = jax.random.uniform(mask_key) < _MASK_PROBABILITY
    low, high = (int(share * samples) for share in _MASK_SHARE)
    length = jax.random.randint(length_key, (), low, high + 1)
    start = jax.random.randint(start_key, (), 0, samples - length + 1)
    time = jnp.arange(samples)
    inside = masked & (time >= start) & (time < start + length)
    return zscore(jnp.where(inside, 0, x_mv))


def augment_batch(keys: jax.Array, batch: Mapping[str, jax.Array], noise: jax.Array) -> jax.Array:
    """Returns the views of a batch as the encoder's input `[2b, T, 1]`; a record's are neighbours.

    Args:
        keys: A random key for each row `[b]`.
        batch: `ecg` int16 `[b, 2, T]`, `scale_mv` float32 `[b, 2]`, `lead` int32 `[b, 2]`.
        noise: The bank, see `augment_view`.
    """
    keys = jax.vmap(jax.random.split)(keys).reshape(-1)
    ecg = lax.optimization_barrier(batch["ecg"].reshape(-1, batch["ecg"].shape[-1]))
    x_mv = ecg.astype(jnp.float32) * batch["scale_mv"].reshape(-1, 1)
    over_views = jax.vmap(augment_view, in_axes=(0, 0, 0, None))
    return over_views(keys, x_mv, batch["lead"].reshape(-1), noise)[..., None]
