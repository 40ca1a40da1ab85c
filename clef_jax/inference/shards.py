"""Records of a shard set to embeddings: without augmentation, whatever the method."""

from collections.abc import Iterator

import numpy as np

from clef_jax.data.shards.store import ShardSet
from clef_jax.data.signals.preprocessing import normalise
from clef_jax.inference.forward import Forward, concatenate

# 10 MB of samples in float64.
_RECORDS_AT_ONCE = 256


def slots_of_lead(shards: ShardSet, records: np.ndarray, lead: str) -> np.ndarray:
    """Returns the position of a lead among each record's leads `[n]`, -1 where absent."""
    if shards.montage.find(lead) is None:
        return np.full(len(records), -1)
    found = shards.lead_ids[records] == shards.montage.id_of(lead)
    return np.where(found.any(axis=1), found.argmax(axis=1), -1)


def records_to_map(
    shards: ShardSet, is_validation: np.ndarray, lead: str, *, most: int
) -> tuple[np.ndarray, np.ndarray, str]:
    """Returns records that have the lead `[n]`, its slot in each `[n]`, and their split.

    They are those of validation or, where fewer than three of them have the lead, of training.

    Args:
        shards: The shard set.
        is_validation: bool `[n]`, which of its records are held out.
        lead: Its name.
        most: Records to return at most.
    """
    slots = slots_of_lead(shards, np.arange(len(shards)), lead)
    shown = slots >= 0
    validates = np.count_nonzero(shown & is_validation) >= 3
    records = np.flatnonzero(shown & (is_validation == validates))[:most]
    return records, slots[records], "validation" if validates else "training"


def embed_records(
    forward: Forward, shards: ShardSet, records: np.ndarray, slots: np.ndarray
) -> np.ndarray:
    """Returns the embeddings, float32 `[n, D]`, of one lead of each record.

    Args:
        forward: An encoder of one lead.
        shards: The shard set.
        records: int `[n]`, positions in the index.
        slots: int `[n]`, which of the record's leads, as `slots_of_lead` returns them.

    Raises:
        IndexError: A record or slot does not exist.
        ShardError: A shard cannot be read.
    """

    def inputs() -> Iterator[np.ndarray]:
        for start in range(0, max(1, len(records)), _RECORDS_AT_ONCE):
            rows = slice(start, start + _RECORDS_AT_ONCE)
            steps = shards.read(records[rows], slots[rows])
            yield normalise(steps[:, None], shards.spec)[:, 0, :, None].astype(np.float32)

    return concatenate([outputs.embedding for outputs in forward.stream(inputs())])
