"""Parameters for tests that want any: compiling what draws a network's own takes most of a test."""

import jax
import numpy as np


def drawn(model, x, seed=0):
    """Returns a model's parameters, uniform within 1/sqrt(fan_in) as its own are at first.

    Args:
        model: A flax module.
        x: What it is called with, of any values.
        seed: Of the draw.
    """
    rng = np.random.default_rng(seed)

    def draw(shape):
        bound = max(1, np.prod(shape.shape[:-1], dtype=int)) ** -0.5
        return rng.uniform(-bound, bound, shape.shape).astype(shape.dtype)

    return jax.tree.map(draw, jax.eval_shape(model.init, jax.random.key(0), x)["params"])
