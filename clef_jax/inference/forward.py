"""The one way an encoder is applied: rows shared among this process's devices, in few shapes."""

import collections
import functools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, overload

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from clef_jax import hosts
from clef_jax.ops.precision import multiply_as

# Batches computing while the next is gathered.
_IN_FLIGHT = 2


class Outputs(NamedTuple):
    """What an encoder makes of rows.

    Attributes:
        embedding: float32 `[N, D]`.
        layers: Stage name -> `[N, T_s, width]`, of the stages asked for.
    """

    embedding: Any
    layers: dict[str, Any]


@functools.partial(jax.jit, static_argnums=(0, 1))
def apply(model: nn.Module, layers: tuple[str, ...], params: Any, x: jax.Array) -> Outputs:
    """Returns the outputs of rows `[N, T, C]`: a pure function, differentiable in `params` and `x`.

    It runs as the program does that calls it: within its jit, gradient or shard_map.
    """
    with multiply_as(model.dtype):
        embedding, state = model.apply({"params": params}, x, mutable=["intermediates"])
    return Outputs(embedding, {name: state["intermediates"][name][0] for name in layers})


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def apply_shared(
    model: nn.Module, layers: tuple[str, ...], mesh: Mesh, params: Any, x: jax.Array
) -> Outputs:
    """Returns `apply` of rows that the mesh's devices divide among themselves evenly."""
    # shard_map, for the reason given in train.step.
    by_device = jax.shard_map(
        functools.partial(apply, model, layers),
        mesh=mesh,
        in_specs=(P(), P(hosts.DATA_AXIS)),
        out_specs=P(hosts.DATA_AXIS),
    )
    return by_device(params, x)


class Forward:
    """An encoder on all of this process's devices; arrays of the host go in and come out.

    Batches come in the few sizes of `batch_sizes`, filled up with zeros, so that few programs are
    compiled whatever the number of rows.
    """

    def __init__(self, model: nn.Module, params: Any):
        """Places the parameters on every device, once.

        Args:
            model: The encoder.
            params: Its parameters, of the host or of devices. What a device holds whole already is
                not copied, so a step that consumes a run's state ends what was made of it.
        """
        self._model = model
        self._mesh = hosts.data_mesh(jax.local_devices())
        self._params = hosts.replicate_here(params, self._mesh)

    def __call__(self, x: np.ndarray, layers: tuple[str, ...] = ()) -> Outputs:
        """Returns the outputs, numpy, of any number of z-scored rows `[N, T, C]`."""
        return next(self.stream([x], layers=layers))

    @overload
    def stream(
        self,
        inputs: Iterable[np.ndarray],
        *,
        layers: tuple[str, ...] = (),
        rows_per_device: int | None = None,
        after: int | None = None,
    ) -> Iterator[Outputs]: ...

    @overload
    def stream(
        self,
        inputs: Iterable[np.ndarray | None],
        *,
        layers: tuple[str, ...] = (),
        rows_per_device: int | None = None,
        after: int | None = None,
    ) -> Iterator[Outputs | None]: ...

    def stream(
        self,
        inputs: Iterable[np.ndarray | None],
        *,
        layers: tuple[str, ...] = (),
        rows_per_device: int | None = None,
        after: int | None = None,
    ) -> Iterator[Outputs | None]:
        """Yields the outputs of each input, in order, while later inputs are awaited and computed.

        Batches are filled across inputs.

        Args:
            inputs: Z-scored rows `[n, T, C]`, of any n but the same T and C; None is passed on in
                its place.
            layers: Names of stages whose outputs are wanted as well.
            rows_per_device: The most that a device computes at once; what suits it by default.
            after: How many rows an earlier stream computed, which these go on from: each gets the
                place in a batch, all of one size, that it has in a stream of them all. The last bit
                of an embedding depends on that, on some backends; by default nothing hangs on it,
                and few rows are computed in small batches.
        """
        sizes = batch_sizes(rows_per_device or default_rows_per_device(), self._mesh.size)
        before = 0
        if after is not None:
            sizes = sizes[:1]
            before = after % sizes[0]
        waiting, done = _Rows(), _Rows()
        asked: collections.deque[tuple[int, ...] | None] = collections.deque()
        computing: collections.deque[tuple[Outputs, slice]] = collections.deque()

        def compute(rows: int) -> None:
            nonlocal before
            for count, size in split_batches(before + rows, sizes):
                x = _filled(waiting.take(count - before), before, size)
                x = jax.device_put(x, hosts.split_rows(self._mesh))
                outputs = apply_shared(self._model, layers, self._mesh, self._params, x)
                computing.append((outputs, slice(before, count)))
                before = 0
                collect(leave=_IN_FLIGHT)

        def collect(leave: int) -> None:
            while len(computing) > leave:
                outputs, places = computing.popleft()
                done.put(_on_host(outputs, places), places.stop - places.start)

        def finished() -> Iterator[Outputs | None]:
            while asked and (asked[0] is None or asked[0][0] <= done.count):
                shape = asked.popleft()
                if shape is None:
                    yield None
                else:
                    yield done.take(shape[0]) if shape[0] else self._of_no_rows(shape, layers)

        for x in inputs:
            asked.append(None if x is None else x.shape)
            if x is not None and len(x):
                waiting.put(x, len(x))
            if full := (before + waiting.count) // sizes[0] * sizes[0]:
                compute(full - before)
                # Computing rows of padding costs less than compiling another shape for the last.
                sizes = sizes[:1]
            yield from finished()
        if waiting.count:
            compute(waiting.count)
        collect(leave=0)
        yield from finished()

    def _of_no_rows(self, shape: tuple[int, ...], layers: tuple[str, ...]) -> Outputs:
        x = jax.ShapeDtypeStruct((1, *shape[1:]), jnp.float32)
        one = jax.eval_shape(functools.partial(apply, self._model, layers), self._params, x)
        return jax.tree.map(lambda a: np.empty((0, *a.shape[1:]), a.dtype), one)


class _Rows:
    """Rows of an array, or of a tree of them, that come and go in portions of any size."""

    def __init__(self):
        self._portions: list[Any] = []
        self.count = 0

    def put(self, portion: Any, count: int) -> None:
        self._portions.append(portion)
        self.count += count

    def take(self, count: int) -> Any:
        rows = concatenate(self._portions)
        self.count -= count
        self._portions = [jax.tree.map(lambda a: a[count:], rows)] if self.count else []
        return jax.tree.map(lambda a: a[:count], rows)


def concatenate(portions: list[Any]) -> Any:
    """Returns trees of arrays, such as `Outputs`, joined along their first axis."""
    if len(portions) == 1:
        return portions[0]
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *portions)


def default_rows_per_device() -> int:
    """Returns the largest batch of one device that pays on this machine's backend."""
    # On a processor more rows than its caches hold make each one slower: measured 1.5 to 2 times.
    return 8 if jax.default_backend() == "cpu" else 64


def batch_sizes(rows_per_device: int, devices: int) -> tuple[int, ...]:
    """Returns the few batch sizes that are compiled, largest first, such as 64, 8, 1.

    All are multiples of the number of devices.
    """
    sizes = [rows_per_device]
    while sizes[-1] > 1:
        sizes.append(max(1, sizes[-1] // 8))
    return tuple(devices * size for size in sizes)


def split_batches(rows: int, sizes: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Yields (rows, compiled size) of batches that together hold so many rows.

    A batch is filled up where at least half of it is real, or it is of the smallest size.

    Args:
        rows: Rows to compute.
        sizes: Sizes to choose from, largest first.
    """
    while rows:
        size = next((size for size in sizes if 2 * rows >= size), sizes[-1])
        yield min(size, rows), size
        rows -= min(size, rows)


def _on_host(outputs: Outputs, places: slice) -> Outputs:
    """Returns some rows of what devices hold or still compute, as arrays of their own."""
    return jax.tree.map(lambda a: np.array(a)[places], outputs)


def _filled(x: np.ndarray, before: int, size: int) -> np.ndarray:
    """Returns `x` after so many rows of zeros, and with more appended up to `size`."""
    rows = (before, size - before - len(x))
    return np.pad(x, (rows, *((0, 0),) * (x.ndim - 1))) if any(rows) else x
