"""The optimiser of an encoder and its head: rates of their own, and one for every stage."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from clef_jax.evaluate.finetune.options import Options
from clef_jax.train import optim


def rate_factors(params: Any, stages: Sequence[str], options: Options) -> Any:
    """Returns what the learning rate of each parameter is, in learning rates of the head.

    The last stage has the encoder's rate, the stage before it `layer_decay` times that, and so on
    to whatever comes before the first. From random weights all have the head's.

    Args:
        params: {"encoder": …, "head": …}; an encoder's parameters begin with the name of a stage
            and an underscore, or belong to none.
        stages: Names of the encoder's stages, the last one last.
        options: The rates.
    """
    ratio = options.encoder_learning_rate / options.learning_rate

    def factor(path: tuple, _: Any) -> float:
        room, *within = (str(entry.key) for entry in path)
        if room != "encoder" or options.mode == "scratch":
            return 1.0
        of_stage = [n for n, stage in enumerate(stages) if within[0].startswith(f"{stage}_")]
        above = len(stages) - 1 - (of_stage[0] if of_stage else -1)
        return ratio * options.layer_decay**above

    return jax.tree_util.tree_map_with_path(factor, params)


def make_optimizer(
    options: Options, schedule: optax.Schedule, stages: Sequence[str]
) -> optax.GradientTransformation:
    """Returns the optimiser of {"encoder": …, "head": …}.

    Frozen, it knows the head alone, and the encoder stays bit for bit.

    Args:
        options: What is trained, and how.
        schedule: The head's learning rate by step.
        stages: Names of the encoder's stages, the last one last.
    """

    def at_their_rates(updates: Any, params: Any) -> Any:
        del params
        factors = rate_factors(updates, stages, options)
        return jax.tree.map(lambda update, factor: update * factor, updates, factors)

    moments, decay = optax.scale_by_adam(), optax.add_decayed_weights(options.weight_decay)
    parts = [moments, decay] if options.optimizer == "adamw" else [decay, moments]
    if options.clip_norm is not None:
        parts.insert(0, optax.clip_by_global_norm(options.clip_norm))
    rates = [optax.stateless(at_their_rates), optax.scale_by_learning_rate(schedule)]
    optimizer = optim.promoting(optax.chain(*parts, *rates))
    return _of_the_head(optimizer) if options.mode == "frozen" else optimizer


def _of_the_head(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    def init(params: Any) -> Any:
        return optimizer.init({"head": params["head"]})

    def update(gradients: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        assert params is not None, "weight decay needs the parameters"
        updates, state = optimizer.update(
            {"head": gradients["head"]}, state, {"head": params["head"]}
        )
        still = jax.tree.map(jnp.zeros_like, gradients["encoder"])
        return {"encoder": still, **updates}, state

    return optax.GradientTransformation(init, update)
