"""What a run carries from step to step."""

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from clef_jax.methods import Method


@flax.struct.dataclass
class TrainState:
    """State of a run after `step` steps.

    Attributes:
        step: Steps done, int32 scalar.
        params: What is trained, float32: {"encoder": …} and whatever else the method has.
        opt_state: State of the optimiser.
        carried: What the method carries besides: a queue, a target network, or ().
        ema: Exponential moving average of `params`, or None.
    """

    step: jax.Array
    params: dict[str, Any]
    opt_state: Any
    carried: Any
    ema: dict[str, Any] | None

    @property
    def evaluated(self) -> dict[str, Any]:
        """The parameters that evaluations look at: the average where there is one."""
        return self.params if self.ema is None else self.ema

    def items(self) -> dict[str, Any]:
        """Returns the state as the items of a checkpoint, see `checkpoints.run`."""
        rest = {
            "step": self.step,
            "params": _without_encoder(self.params),
            "opt_state": self.opt_state,
            "carried": self.carried,
        }
        items = {"encoder": self.params["encoder"], "rest": rest}
        if self.ema is not None:
            rest["ema"] = _without_encoder(self.ema)
            items["ema"] = self.ema["encoder"]
        return items


def state_from_items(items: Mapping[str, Any]) -> TrainState:
    """Returns the state whose `items` these are."""
    rest = items["rest"]
    ema = {**rest["ema"], "encoder": items["ema"]} if "ema" in items else None
    return TrainState(
        step=rest["step"],
        params={**rest["params"], "encoder": items["encoder"]},
        opt_state=rest["opt_state"],
        carried=rest["carried"],
        ema=ema,
    )


def create_state(
    method: Method,
    optimizer: optax.GradientTransformation,
    key: jax.Array,
    example: jax.Array,
    *,
    with_ema: bool,
    encoder: Any = None,
) -> TrainState:
    """Returns the state before the first step.

    Args:
        method: What is learnt.
        optimizer: From `train.optim`.
        key: Random key of the initial weights.
        example: An input of the encoder `[1, T, C]`.
        with_ema: Whether the state carries an average of the parameters.
        encoder: Parameters that the encoder starts from instead of random ones.
    """
    params, carried = method.init(key, example, encoder)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=optimizer.init(params),
        # Copies, as the step, which consumes the state, cannot be given one buffer twice.
        carried=jax.tree.map(jnp.copy, carried),
        ema=jax.tree.map(jnp.copy, params) if with_ema else None,
    )


def _without_encoder(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tree for name, tree in params.items() if name != "encoder"}
