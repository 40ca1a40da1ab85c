"""Arrays that differ between devices beside arrays that do not, inside `shard_map`."""

from typing import Any

import jax
from jax import lax
from jax.typing import DTypeLike


def varying_alike(*arrays: jax.Array) -> list[jax.Array]:
    """Marks arrays as varying over the same mesh axes, as ordinary operations do by themselves.

    To be done before a parameter is cast to a narrower type, and outside a custom derivative: the
    mark's own transpose then sums a replicated parameter's gradient over devices, in the
    parameter's type.
    """
    axes = frozenset().union(*map(_varying_axes, arrays))
    return [lax.pcast(a, tuple(axes - _varying_axes(a)), to="varying") for a in arrays]


def shaped_alike(x: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> jax.ShapeDtypeStruct:
    """Returns the shape and type of a result which varies over the same mesh axes as `x`.

    What `pallas_call` returns must be declared so, where other operations find out by themselves.
    """
    kind = jax.typeof(x)
    # jax 0.9 has `vma` where later versions have `manual_axis_type`.
    name = "manual_axis_type" if hasattr(kind, "manual_axis_type") else "vma"
    varying: dict[str, Any] = {name: getattr(kind, name)}
    return jax.ShapeDtypeStruct(shape, dtype, **varying)


def _varying_axes(x: jax.Array) -> frozenset[str]:
    kind = jax.typeof(x)
    # jax 0.9 has `vma` where later versions have `manual_axis_type`.
    return kind.manual_axis_type.varying if hasattr(kind, "manual_axis_type") else kind.vma
