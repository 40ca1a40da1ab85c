"""Embeddings of records in shards, as evaluation wants them: no augmentation."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from clef_jax import hosts
from clef_jax.data.shards.store import ShardSet
from clef_jax.ops.precision import multiply_as
from clef_jax.train.augment import zscore


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


def make_embed_records(
    model: nn.Module, mesh: Mesh, *, batch_size: int = 64
) -> Callable[[Any, ShardSet, np.ndarray, np.ndarray], np.ndarray]:
    """Returns the function (params, shards, records [n], slots [n]) -> embeddings `[n, D]`.

    Args:
        model: The encoder.
        mesh: Devices of this process.
        batch_size: Records at a time, rounded up to a multiple of the devices.
    """
    batch_size += -batch_size % mesh.size

    def encode_rows(params, ecg):
        with multiply_as(model.dtype):
            return model.apply({"params": params}, zscore(ecg)[:, :, None])

    # shard_map, for the reason given in train.step.
    encode = jax.jit(
        jax.shard_map(
            encode_rows,
            mesh=mesh,
            in_specs=(P(), P(hosts.DATA_AXIS)),
            out_specs=P(hosts.DATA_AXIS),
        )
    )

    def embed_records(params, shards, records, slots):
        params = jax.device_put(params, hosts.replicated(mesh))
        found = []
        for start in range(0, len(records), batch_size):
            rows = slice(start, start + batch_size)
            ecg = shards.read(records[rows], slots[rows]).astype(np.float32)
            missing = batch_size - len(ecg)
            ecg = jnp.asarray(np.pad(ecg, ((0, missing), (0, 0))))
            found.append(np.asarray(encode(params, ecg))[: batch_size - missing])
        return np.concatenate(found)

    return embed_records
