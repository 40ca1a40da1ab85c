"""The loss of the held-out patients, comparable between steps, runs and machines.

A contrastive loss depends on the number of subjects it compares, so all batches hold as many: the
training batch's, or all patients where they are fewer. That follows from the data and the
configuration alone. On devices that do not divide it, some encode rows that do not count.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from clef_jax import hosts
from clef_jax.data.annotations.annotations import Annotations
from clef_jax.data.batches.rows import BatchRows, DealtRows
from clef_jax.data.shards.store import ShardSet
from clef_jax.methods import Method
from clef_jax.methods.method import Batch, Metrics, Params
from clef_jax.ops.precision import multiply_as
from clef_jax.train.evaluators.evaluator import Evaluator, Inputs, TooFew
from clef_jax.train.feed import device_batches
from clef_jax.train.state import TrainState
from clef_jax.train.step import make_encode_rows


def make_validation(inputs: Inputs, period: int) -> Evaluator:
    """Returns the loss of the validation patients, see `Validation`.

    Raises:
        TooFew: There are fewer than the two patients that a contrastive loss compares.
    """
    validation = Validation(
        inputs.method,
        inputs.shards,
        inputs.annotations,
        inputs.constants,
        inputs.mesh,
        batch_size=inputs.batch_size,
        seed=inputs.seed,
        num_threads=inputs.num_threads,
        rows_at_once=inputs.rows_at_once,
    )
    return Evaluator(validation.evaluate, period, validation.record)


@dataclasses.dataclass(frozen=True)
class FilledRows:
    """Batches whose rows are repeated until they divide by `multiple`. Picklable."""

    dealt: DealtRows
    multiple: int

    def __len__(self) -> int:
        return len(self.dealt)

    def __getitem__(self, step: int) -> BatchRows:
        rows = self.dealt[step]
        size = rows.record.size
        chosen = np.resize(np.arange(size), size + -size % self.multiple)
        return BatchRows(record=rows.record[chosen], slot=rows.slot[chosen])


class Validation:
    """Computes the mean loss over the held-out patients, each of them in at least one batch.

    Args:
        method: What the run learns.
        shards: The shard set.
        annotations: Its validation patients are taken, the first record of each.
        constants: The method's, on every device.
        mesh: The run's mesh.
        batch_size: The training batch's.
        seed: Seed of the order, the leads and the augmentation, the same at every step.
        num_threads: Batches read at once.
        rows_at_once: Rows that a device encodes at once, 0 for all.

    Attributes:
        record: What a loss was computed over, for the checkpoint: `patients`, `batch_size`,
            `batches`, and how many patients are `seen_twice` because they fill the last batch.

    Raises:
        TooFew: There are fewer than two validation patients.
    """

    def __init__(
        self,
        method: Method,
        shards: ShardSet,
        annotations: Annotations,
        constants: Any,
        mesh: Mesh,
        *,
        batch_size: int,
        seed: int,
        num_threads: int,
        rows_at_once: int = 0,
    ):
        held_out = annotations.is_validation
        patients = np.unique(shards.patient_code[held_out]).size
        if patients < 2:
            raise TooFew(f"{patients} validation patients are too few to validate on")
        size = min(batch_size, patients)
        self._dealt = DealtRows(
            shards.patient_code,
            shards.n_leads,
            held_out,
            batch_size=size,
            seed=seed,
            records_per_patient="first",
            validation=True,
        )
        self._columns = {name: annotations.columns[name] for name in method.needs}
        self._shards, self._constants, self._mesh = shards, constants, mesh
        self._num_threads = num_threads
        self._multiple = mesh.size * (rows_at_once or 1)
        self._eval_step = make_eval_step(
            method, mesh, seed=seed, size=size, rows_at_once=rows_at_once
        )
        batches = self._dealt.steps_per_epoch
        self.record = {
            "patients": patients,
            "batch_size": size,
            "batches": batches,
            "seen_twice": batches * size - patients,
        }

    def evaluate(self, state: TrainState, stopped: Callable[[], bool]) -> dict[str, float] | None:
        """Returns the loss by name, or None if `stopped` says so before the last batch."""
        loss = self.loss(state, stopped)
        return None if loss is None else {"validation/loss": loss}

    def loss(self, state: TrainState, stopped: Callable[[], bool]) -> float | None:
        """Returns the mean over the batches, or None if `stopped` says so before the last."""
        params, carried = state.evaluated, state.carried
        # Always the first epoch that is dealt, so that losses differ by the weights alone.
        rows = FilledRows(self._dealt, self._multiple)
        batches = device_batches(
            self._shards, rows, self._mesh, columns=self._columns, num_threads=self._num_threads
        )
        losses = []
        try:
            for number in range(self.record["batches"]):
                if stopped():
                    return None
                values = self._eval_step(
                    params, carried, jnp.int32(number), next(batches), self._constants
                )
                losses.append(float(values["loss"]))
        finally:
            batches.close()
        return float(np.mean(losses))


def make_eval_step(
    method: Method, mesh: Mesh, *, seed: int, size: int, rows_at_once: int = 0
) -> Callable[[Params, Any, jax.Array, Batch, Any], Metrics]:
    """Returns the jitted function (params, carried, step, batch, constants) -> loss and metrics.

    The devices share the rows to encode; then each compares all of the first `size` with another.
    """
    encode = jax.shard_map(
        make_encode_rows(method, seed=seed, rows_at_once=rows_at_once),
        mesh=mesh,
        in_specs=(P(), P(), P(), P(hosts.DATA_AXIS), P()),
        out_specs=P(hosts.DATA_AXIS),
    )

    def step(params: Params, carried: Any, step: jax.Array, batch: Batch, constants: Any):
        with multiply_as(method.dtype):
            outputs = encode(params, carried, step, batch, constants)
            outputs = lax.with_sharding_constraint(outputs, hosts.replicated(mesh))
            outputs = jax.tree.map(lambda rows: rows[:size], outputs)
            loss, metrics = method.loss(params, carried, outputs, None)
        return {"loss": loss, **metrics}

    return jax.jit(step, out_shardings=hosts.replicated(mesh))
