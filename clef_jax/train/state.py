"""What a run carries from step to step."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax


@flax.struct.dataclass
class TrainState:
    """State of a run after `step` steps.

    Attributes:
        step: Steps done, int32 scalar.
        params: Encoder parameters, float32.
        opt_state: State of the optimiser.
        ema: Exponential moving average of `params`, or None.
    """

    step: jax.Array
    params: Any
    opt_state: Any
    ema: Any

    @property
    def averaged(self) -> Any:
        """The average of the parameters where there is one, else the parameters."""
        return self.params if self.ema is None else self.ema


def create_state(
    params: Any, optimizer: optax.GradientTransformation, *, with_ema: bool
) -> TrainState:
    """Returns the state before the first step."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=optimizer.init(params),
        ema=jax.tree.map(jnp.copy, params) if with_ema else None,
    )
