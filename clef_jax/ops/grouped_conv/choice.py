"""Which algorithm computes which pass of which layer on which platform."""

import contextlib
from collections.abc import Mapping, Sequence

import jax

from clef_jax.ops.grouped_conv.layers import Layer
from clef_jax.ops.grouped_conv.passes import Passes
from clef_jax.ops.grouped_conv.rules import FEW, rule
from clef_jax.ops.grouped_conv.table import TABLE

# Those that have algorithms of their own; any other computes as XLA does by itself.
PLATFORMS = ("cpu", "tpu", "cuda", "rocm")

# A part of the key of jit's caches: a program traced within a `using` serves no other.
_used = jax.make_user_context(None)


def using(
    algorithms: Passes | Mapping[str, Sequence[str]],
) -> contextlib.AbstractContextManager[None]:
    """Returns the context in which a function is to be traced that uses these algorithms.

    Args:
        algorithms: Those of every layer whatever the platform, such as `PLAIN`; or, by the names of
            layers, as in `TABLE`, those of some, beside which others have their usual ones. An
            inner context takes the place of an outer one.

    Raises:
        ValueError: A name is not an algorithm's.
    """
    if isinstance(algorithms, Passes):
        return _used(algorithms)
    return _used(tuple((layer, Passes.parse(*texts)) for layer, texts in algorithms.items()))


def imposed() -> bool:
    """Returns whether a caller has said how every layer is to be computed, by itself."""
    return isinstance(_used.value, Passes)


def choose(
    platform: str,
    dtype: str,
    layer: Layer,
    outputs: int,
    *,
    device_kind: str = "",
    kernels: bool = False,
) -> Passes:
    """Returns the algorithms in use, else the table's, else the rule's where it has no entry.

    Args:
        platform: One of `PLATFORMS`.
        dtype: Name of the type computed in.
        layer: The layer.
        outputs: Number of output samples over the whole batch; few follow the rule.
        device_kind: As JAX names it, where it is known.
        kernels: Whether the platform has our own kernels and they take the arrays
            (`kernels.suits`). Where not, none is chosen.
    """
    used = _used.value
    if imposed():
        return used
    usual = rule(platform, layer, outputs, kernels=kernels)
    if outputs < FEW:
        return usual
    entry = dict(used or ()).get(str(layer))
    if entry is None:
        tables = (TABLE.get(key, {}) for key in (f"{platform} {device_kind}", platform))
        found = (table.get(dtype, {}).get(str(layer)) for table in tables)
        texts = next(filter(None, found), None)
        entry = Passes.parse(*texts) if texts else usual
    if not kernels:
        entry = Passes(*(u if e.form == "kernel" else e for e, u in zip(entry, usual, strict=True)))
    return entry
