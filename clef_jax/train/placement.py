"""Where a run's state lies: whole on every device, or split over them as far as it divides."""

from typing import Any

import jax
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from clef_jax import hosts
from clef_jax.train.state import TrainState


def state_shardings(like: TrainState, mesh: Mesh, *, split: bool) -> TrainState:
    """Returns the sharding of every array of a state.

    Split, each of `D` devices holds one part in `D` of every parameter, of the optimiser's moments
    and of the average: of the arrays that have an axis which `D` divides. What a method carries is
    whole on every device, as its rows are compared there.

    Args:
        like: The state, or its `jax.eval_shape`.
        mesh: From `hosts.data_mesh`.
        split: Whether to split; else every device holds everything.

    References:
        Rajbhandari et al., ZeRO, SC 2020.
    """

    def place(leaf: Any) -> NamedSharding:
        return NamedSharding(mesh, _split_largest(leaf.shape, mesh.size) if split else P())

    shardings = jax.tree.map(place, like)
    return shardings.replace(carried=jax.tree.map(lambda _: hosts.replicated(mesh), like.carried))


def gather(params: Any, specs: Any) -> Any:
    """Returns a device's parameters whole, from the parts that lie there, inside `shard_map`.

    Its transpose adds up what the devices' rows say of a parameter, in the parameter's own type,
    and leaves the part of each device there.

    Args:
        params: Nested arrays, each a part along the axis that its spec names, or whole.
        specs: Their `PartitionSpec`s, of the same structure or of a prefix of it.
    """

    def whole(spec: P, leaf: jax.Array) -> jax.Array:
        if hosts.DATA_AXIS not in spec:
            return lax.pcast(leaf, hosts.DATA_AXIS, to="varying")
        axis = spec.index(hosts.DATA_AXIS)
        return lax.all_gather(leaf, hosts.DATA_AXIS, axis=axis, tiled=True)

    return jax.tree.map(
        lambda spec, part: jax.tree.map(lambda leaf: whole(spec, leaf), part), specs, params
    )


def _split_largest(shape: tuple[int, ...], devices: int) -> P:
    """Returns the spec that splits the longest axis of those that divide by the devices, if any."""
    dividing = [axis for axis, length in enumerate(shape) if length and length % devices == 0]
    if not dividing:
        return P()
    longest = max(dividing, key=lambda axis: shape[axis])
    return P(*[None] * longest, hosts.DATA_AXIS)
