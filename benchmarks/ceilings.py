"""What this machine can do at best: its matrix products and its memory, measured."""

import jax
import jax.numpy as jnp

from clef_jax.hardware.timing import interleaved

# Both must outgrow every cache, and amortise an accelerator's launch.
_SIDE = {"cpu": 2048}
_ELEMENTS = {"cpu": 1 << 25}


def measure_ceilings(dtype: str, *, rounds: int = 7) -> tuple[float, float]:
    """Returns the best FLOP/s of a matrix product in `dtype` and the best bytes/s of memory.

    Memory is measured by adding to an array in place of itself, which reads and writes it.
    """
    backend = jax.default_backend()
    side, elements = _SIDE.get(backend, 8192), _ELEMENTS.get(backend, 1 << 28)
    a = jnp.ones((side, side), dtype)
    state = {"x": jnp.zeros(elements, jnp.float32)}
    product = jax.jit(jnp.dot)
    add = jax.jit(lambda x: x + 1, donate_argnums=0)

    def add_in_place():
        state["x"] = jax.block_until_ready(add(state["x"]))

    candidates = {"product": lambda: jax.block_until_ready(product(a, a)), "add": add_in_place}
    interleaved(candidates, rounds=2)
    times = interleaved(candidates, rounds=rounds)
    return 2 * side**3 / times["product"].best, 8 * elements / times["add"].best
