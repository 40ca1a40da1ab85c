"""Learning rates by step: the project's, and what the original's come to."""

import jax
import jax.numpy as jnp
import optax

from clef_jax.evaluate.finetune.options import Options
from clef_jax.train import optim

# Of torch's one-cycle schedule as the original sets it: where it starts from and rises to, in
# learning rates, and in which share of its steps.
_CYCLE_START, _CYCLE_PEAK, _CYCLE_RISE = 0.4, 10.0, 0.3
# Where its fall ends, in parts of its start.
_CYCLE_END = 1e-4


def make_schedule(options: Options, steps_per_epoch: int) -> optax.Schedule:
    """Returns the head's learning rate by step, numbered from 0.

    Args:
        options: Its highest value, its shape and the number of epochs.
        steps_per_epoch: Steps in each.
    """
    rate, total = options.learning_rate, options.epochs * steps_per_epoch
    match options.schedule:
        case "one_cycle":
            return _each_epoch(_one_cycle(rate, total), steps_per_epoch)
        case "restarts":
            return _each_epoch(_restarts(rate, max(1, options.epochs // 2)), steps_per_epoch)
        case "constant":
            return optax.constant_schedule(rate)
    warmup = round(options.warmup * total)
    return optim.warmup_cosine(rate, total, warmup_steps=warmup, minimum=0.0)


def _each_epoch(by_epoch: optax.Schedule, steps_per_epoch: int) -> optax.Schedule:
    return lambda step: by_epoch(step // steps_per_epoch)


def _one_cycle(rate: float, total: int) -> optax.Schedule:
    """Returns the cycle of `total` steps of which a run sees but the first: one an epoch [Q2]."""
    start, peak = _CYCLE_START * rate, _CYCLE_PEAK * rate
    rise = max(_CYCLE_RISE * total - 1, 1.0)
    fall = max(total - 1 - rise, 1.0)

    def schedule(number: int | jax.Array) -> jax.Array:
        done = jnp.asarray(number, jnp.float32)
        rising = _between(start, peak, done / rise)
        return jnp.where(
            done <= rise, rising, _between(peak, _CYCLE_END * start, (done - rise) / fall)
        )

    return schedule


def _restarts(rate: float, period: int) -> optax.Schedule:
    def schedule(number: int | jax.Array) -> jax.Array:
        return _between(rate, 0.0, jnp.asarray(number % period, jnp.float32) / period)

    return schedule


def _between(first: float, last: float, share: jax.Array) -> jax.Array:
    """Returns the way from one value to another, along half a cosine."""
    return last + (first - last) * (1 + jnp.cos(jnp.pi * jnp.clip(share, 0, 1))) / 2
