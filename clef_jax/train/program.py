"""The step of a method and an optimiser on the devices of a mesh, and the state it begins with."""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from clef_jax import hosts
from clef_jax.methods import Method
from clef_jax.train.placement import state_shardings
from clef_jax.train.state import TrainState, create_state
from clef_jax.train.step import make_train_step


class Initial(Protocol):
    """Makes the state before the first step."""

    def __call__(self, encoder: Any = None) -> TrainState:
        """Returns it, from an encoder's parameters or, of None, random ones."""


@dataclasses.dataclass(frozen=True)
class StepProgram:
    """A training step that is yet to be compiled.

    Attributes:
        method: What it learns by.
        step: From `make_train_step`.
        initial: Makes the state before the first step.
        shardings: Where the state lies.
        mesh: Its devices.
        batch: Makes a global batch of so many rows, of which only names, shapes and types count.
        multiple: What the rows of a global batch must be a multiple of.
    """

    method: Method
    step: Any
    initial: Initial
    shardings: TrainState
    mesh: Mesh
    batch: Callable[[int], Mapping[str, np.ndarray]]
    multiple: int

    def arguments(self, batch_size: int) -> tuple[TrainState, dict[str, Any], Any]:
        """Returns the shapes of the step's state, of a global batch and of the constants."""
        return (
            hosts.shapes_at(jax.eval_shape(self.initial), self.shardings),
            hosts.shapes_at(self.batch(batch_size), hosts.split_rows(self.mesh)),
            hosts.shapes_at(self.method.constants, hosts.replicated(self.mesh)),
        )


def views_of_shards(samples: int, needs: Collection[str]) -> Callable[[int], dict[str, np.ndarray]]:
    """Returns what makes batches as those of `data.batches.stream`, for `StepProgram.batch`.

    Args:
        samples: Samples of a view.
        needs: Annotations that go along.
    """

    def batch(batch_size: int) -> dict[str, np.ndarray]:
        views: dict[str, np.ndarray] = {
            "ecg": np.broadcast_to(np.int16(0), (batch_size, 2, samples)),
            "scale_mv": np.broadcast_to(np.float32(0), (batch_size, 2)),
            "lead": np.broadcast_to(np.int32(0), (batch_size, 2)),
        }
        of_record = np.broadcast_to(np.float32(0), batch_size)
        return views | dict.fromkeys(sorted(needs), of_record)

    return batch


def join(
    method: Method,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    *,
    samples: int,
    batch: Callable[[int], Mapping[str, np.ndarray]],
    seed: int,
    ema_decay: float | None,
    shard_state: bool,
    rows_at_once: int = 0,
) -> StepProgram:
    """Returns the step by which a method and an optimiser teach on the devices of a mesh.

    Args:
        method: What is learnt.
        optimizer: From `train.optim`.
        mesh: From `hosts.data_mesh`, of this machine's devices or of described ones.
        samples: Of an input of the encoder.
        batch: Makes batches' shapes, see `StepProgram`.
        seed: Of the weights and of the rows' random draws.
        ema_decay: Decay of the moving average of the weights, if there is one.
        shard_state: Whether the state is split over the devices.
        rows_at_once: Rows that a device encodes at once, 0 for all.
    """

    def initial(encoder: Any = None) -> TrainState:
        return create_state(
            method,
            optimizer,
            jax.random.key(seed),
            jnp.zeros((1, samples, 1)),
            with_ema=ema_decay is not None,
            encoder=encoder,
        )

    shardings = state_shardings(jax.eval_shape(initial), mesh, split=shard_state)
    step = make_train_step(
        method,
        optimizer,
        mesh,
        seed=seed,
        ema_decay=ema_decay,
        shardings=shardings,
        rows_at_once=rows_at_once,
    )
    multiple = mesh.size * (rows_at_once or 1)
    return StepProgram(method, step, initial, shardings, mesh, batch, multiple)
