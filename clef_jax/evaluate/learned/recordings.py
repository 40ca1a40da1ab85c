"""The recordings that a report looks at: one a patient, and of some another one besides."""

import dataclasses

import numpy as np

from clef_jax.data.annotations.annotations import Annotations
from clef_jax.data.shards.store import ShardSet
from clef_jax.data.signals import zscore
from clef_jax.errors import ClefError
from clef_jax.inference.shards import slots_of_lead


class ReportError(ClefError):
    """A shard set from which no report can be made; the message says what is missing."""


@dataclasses.dataclass(frozen=True)
class Recordings:
    """Patients, with one of their recordings and perhaps another. Positions in the shards' index.

    Attributes:
        shards: The shard set.
        annotations: What is known of its records.
        lead: The standard lead looked at.
        first: int64 [patients], each one's first recording that has the lead.
        other: int64 [patients], the next one, of another visit; -1 where there is none.
        held_out: bool [patients], whether the patient is one of validation.
        of_patients: How many patients there were to choose from.
    """

    shards: ShardSet
    annotations: Annotations
    lead: str
    first: np.ndarray
    other: np.ndarray
    held_out: np.ndarray
    of_patients: int

    def read_mv(self, records: np.ndarray) -> np.ndarray:
        """Returns the lead of some records, float32 `[n, T]`, mV."""
        slots = slots_of_lead(self.shards, records, self.lead)
        scale = self.shards.scale_mv[records, slots][:, None]
        return self.shards.read(records, slots) * scale


def choose_recordings(
    shards: ShardSet, annotations: Annotations, *, lead: str, max_patients: int, seed: int = 0
) -> Recordings:
    """Returns the patients that have the lead, or a random choice of so many of them.

    Raises:
        ReportError: No record has the lead.
    """
    # Of a recording with several windows the first; one and the same is no other visit.
    is_first = np.append(True, shards.record[1:] != shards.record[:-1])
    records = np.flatnonzero(is_first)
    records = records[slots_of_lead(shards, records, lead) >= 0]
    if not records.size:
        raise ReportError(f"{shards.folder}: no record has lead {lead}; choose another with --lead")
    patient = shards.patient_code[records]
    order = np.argsort(patient, kind="stable")
    _, start, count = np.unique(patient[order], return_index=True, return_counts=True)
    first = records[order[start]]
    other = np.where(count > 1, records[order[np.minimum(start + 1, len(order) - 1)]], -1)
    chosen = np.arange(len(first))
    if len(first) > max_patients:
        chosen = np.sort(np.random.default_rng(seed).permutation(len(first))[:max_patients])
    return Recordings(
        shards=shards,
        annotations=annotations,
        lead=lead,
        first=first[chosen],
        other=other[chosen],
        held_out=annotations.is_validation[first[chosen]],
        of_patients=len(first),
    )


def encoder_input(x_mv: np.ndarray) -> np.ndarray:
    """Returns leads `[n, T]` as the encoder takes them, z-scored float32 `[n, T, 1]`."""
    return zscore(x_mv)[:, :, None].astype(np.float32)
