"""Which records and leads a batch holds, by step: a pure function of seed and step."""

import dataclasses
import functools
from typing import Literal, Protocol

import numpy as np

from clef_jax.errors import ClefError


class BatchError(ClefError):
    """Batches that there are too few patients for; the message says what to change."""


RecordsPerPatient = Literal["first", "random", "all"]

# The second view shows the first one's lead with this probability, else an independent draw.
_SAME_LEAD_PROBABILITY = 0.8
# Separates the random streams of one seed.
_ORDER, _CHOICE, _LEADS = range(3)


@dataclasses.dataclass(frozen=True)
class BatchRows:
    """Rows of one global batch: `record [B]`, `slot [B, 2]` (which of the record's leads)."""

    record: np.ndarray
    slot: np.ndarray


class RowsByStep(Protocol):
    """The rows of each batch, by step. Picklable and thread-safe."""

    def __len__(self) -> int: ...

    def __getitem__(self, step: int) -> BatchRows: ...


class DealtRows:
    """The endless sequence of the batches of a training run, dealt like cards.

    Every epoch deals the patients (or, with "all", the records) anew. An epoch has whole batches
    only; which patients are left over changes from epoch to epoch. In validation none is, except
    with "all": patients of the first batch fill up the last.

    Args:
        patient_code: int `[n]`, equal where rows of the index are of one patient.
        n_leads: int `[n]`, leads of each row.
        is_validation: bool `[n]`, whether its patient is held out.
        batch_size: Global batch size B.
        seed: Seed of the order and of the choice of records and leads.
        records_per_patient: "first" takes each patient's first record (as the original does),
            "random" one at random in every epoch, "all" each of them; no batch ever holds two of
            one patient.
        validation: Deal the validation patients instead of the training patients.

    Raises:
        BatchError: There are fewer patients than rows in a batch, or no such patient at all.
    """

    def __init__(
        self,
        patient_code: np.ndarray,
        n_leads: np.ndarray,
        is_validation: np.ndarray,
        *,
        batch_size: int,
        seed: int,
        records_per_patient: RecordsPerPatient,
        validation: bool = False,
    ):
        if records_per_patient not in ("first", "random", "all"):
            raise BatchError(
                f"records_per_patient is {records_per_patient!r}; choose first, random or all"
            )
        self._batch_size, self._seed, self._mode = batch_size, seed, records_per_patient
        self._validation = validation
        self._n_leads = n_leads
        records = np.flatnonzero(is_validation == validation)
        patient = patient_code[records]
        order = np.argsort(patient, kind="stable")
        self._records = records[order]
        _, self._first, self._count = np.unique(
            patient[order], return_index=True, return_counts=True
        )
        if self.patients < batch_size:
            split = "validation" if validation else "training"
            raise BatchError(
                f"{self.patients} {split} patients cannot fill a batch of {batch_size} different "
                "ones; lower the batch size or write more shards"
            )

    @property
    def patients(self) -> int:
        """Number of patients that are dealt."""
        return self._first.size

    @functools.cached_property
    def steps_per_epoch(self) -> int:
        """Number of whole batches in an epoch."""
        if self._mode != "all":
            batches, left = divmod(self.patients, self._batch_size)
            return batches + (self._validation and left > 0)
        # A patient shows at most one record a batch, so those of many records bound the batches.
        steps, previous = self._records.size // self._batch_size, None
        while steps != previous:
            previous = steps
            steps = int(np.minimum(self._count, steps).sum()) // self._batch_size
        return steps

    def __len__(self) -> int:
        # Grain asks for a length; no run is longer than this many steps.
        return 1 << 40

    def __getitem__(self, step: int) -> BatchRows:
        epoch, batch = divmod(int(step), self.steps_per_epoch)
        record = _cached_epoch(self, epoch)[batch]
        rng = self._rng(_LEADS, step)
        leads = self._n_leads[record]
        first, second = rng.random((2, record.size))
        keep = rng.random(record.size) < _SAME_LEAD_PROBABILITY
        anchor = (first * leads).astype(np.int64)
        slot = np.stack([anchor, np.where(keep, anchor, (second * leads).astype(np.int64))], axis=1)
        return BatchRows(record=record, slot=slot)

    def _rng(self, stream: int, index: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, stream, int(index)])

    def _epoch(self, epoch: int) -> np.ndarray:
        """Returns the records of one epoch `[steps_per_epoch, B]`."""
        rng, batches = self._rng(_ORDER, epoch), self.steps_per_epoch
        if self._mode != "all":
            # Cut short in training; in validation it begins again from its start.
            patient = np.resize(rng.permutation(self.patients), batches * self._batch_size)
            nth = np.zeros(patient.size, np.int64)
            if self._mode == "random":
                draw = self._rng(_CHOICE, epoch).random(patient.size)
                nth = (draw * self._count[patient]).astype(np.int64)
            return self._records[self._first[patient] + nth].reshape(batches, self._batch_size)
        return self._deal_all(rng, batches)

    def _deal_all(self, rng: np.random.Generator, batches: int) -> np.ndarray:
        """Deals records like cards: one patient's follow each other, so to different batches."""
        patient = np.repeat(np.arange(self.patients), self._count)
        shuffled = np.lexsort((rng.random(patient.size), rng.permutation(self.patients)[patient]))
        patient = patient[shuffled]
        starts = np.flatnonzero(np.r_[True, patient[1:] != patient[:-1]])
        rank = np.arange(patient.size) - np.repeat(starts, np.diff(np.r_[starts, patient.size]))
        dealt = shuffled[rank < batches]
        # Leaving out a random surplus keeps the order, so two of a patient stay close neighbours.
        surplus = rng.permutation(dealt.size)[: dealt.size - batches * self._batch_size]
        dealt = np.delete(dealt, surplus).reshape(self._batch_size, batches).T
        return rng.permuted(self._records[dealt][rng.permutation(batches)], axis=1)


@functools.lru_cache(maxsize=4)
def _cached_epoch(dealt: DealtRows, epoch: int) -> np.ndarray:
    return dealt._epoch(epoch)
