"""Learning-rate schedules and the optimiser."""

import jax
import jax.numpy as jnp
import optax


def warm_restarts(
    peak: float,
    steps_per_epoch: int,
    *,
    first_epochs: int = 10,
    multiplier: int = 2,
    minimum: float = 1e-6,
) -> optax.Schedule:
    """Returns cosine annealing with warm restarts, constant within an epoch as the original's.

    Args:
        peak: Learning rate at each restart.
        steps_per_epoch: Steps between two changes of the rate.
        first_epochs: Length of the first cycle.
        multiplier: Ratio of successive cycles' lengths, at least 2.
        minimum: Learning rate that a cycle falls towards.

    References:
        Loshchilov and Hutter, SGDR, ICLR 2017.
    """

    def schedule(step: int | jax.Array) -> jax.Array:
        epoch = jnp.asarray(step // steps_per_epoch, jnp.float32)
        # Cycle k starts after first_epochs * (1 + multiplier + ... + multiplier^(k-1)) epochs.
        # Half an epoch keeps the logarithm off the boundary, where rounding could pick the cycle.
        grown = (epoch + 0.5) * (multiplier - 1) / first_epochs + 1
        cycle = jnp.floor(jnp.log(grown) / jnp.log(float(multiplier)))
        length = first_epochs * jnp.power(float(multiplier), cycle)
        start = (length - first_epochs) / (multiplier - 1)
        return minimum + (peak - minimum) * (1 + jnp.cos(jnp.pi * (epoch - start) / length)) / 2

    return schedule


def warmup_cosine(
    peak: float, total_steps: int, *, warmup_steps: int, minimum: float = 1e-6
) -> optax.Schedule:
    """Returns a linear warm-up from 0 to `peak`, then one cosine to `minimum` at `total_steps`."""
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=peak,
        warmup_steps=warmup_steps,
        decay_steps=max(total_steps, warmup_steps + 1),
        end_value=minimum,
    )


def make_optimizer(
    schedule: optax.Schedule, *, weight_decay: float = 5e-4, clip_norm: float | None = None
) -> optax.GradientTransformation:
    """Returns AdamW over all parameters, after clipping by the global norm if one is given."""
    optimizer = optax.adamw(schedule, weight_decay=weight_decay)
    if clip_norm is not None:
        optimizer = optax.chain(optax.clip_by_global_norm(clip_norm), optimizer)
    return promoting(optimizer)


def promoting(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Returns an optimiser that works where types are promoted strictly, too."""

    def update(gradients, state, params=None):
        # Optax raises a float to the power of its integer count, which strict promotion refuses.
        with jax.numpy_dtype_promotion("standard"):
            return optimizer.update(gradients, state, params)

    return optax.GradientTransformation(optimizer.init, update)
