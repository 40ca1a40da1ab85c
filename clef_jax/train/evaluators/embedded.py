"""Evaluators of embeddings: the quick probe, and the map."""

import pathlib
from collections.abc import Callable

import flax.linen as nn
import jax
import numpy as np
from absl import logging

from clef_jax.data.shards.store import ShardSet
from clef_jax.inference.forward import Forward
from clef_jax.inference.shards import embed_records, records_to_map, slots_of_lead
from clef_jax.train import plots
from clef_jax.train.data import RunData
from clef_jax.train.evaluators.evaluator import Evaluate
from clef_jax.train.evaluators.probe import read_by_probe
from clef_jax.train.state import TrainState

_LEAD = "II"
_RECORDS_ON_MAP, _PATIENTS_PROBED = 4096, 1000
_ROWS_AT_ONCE = 256


def make_probe(model: nn.Module, data: RunData) -> Evaluate | None:
    """Returns the quick probe of the validation patients, or None where there are too few.

    It reads the first record of each by lead II or, where there is none, by its first lead.
    """
    shards, columns = data.shards, data.annotations.columns
    held_out = np.flatnonzero(data.annotations.is_validation)
    _, first = np.unique(shards.patient_code[held_out], return_index=True)
    records = held_out[first]
    if len(records) > _PATIENTS_PROBED:
        records = np.sort(np.random.default_rng(0).permutation(records)[:_PATIENTS_PROBED])
    if len(records) < 2:
        logging.warning("%d validation patients are too few for the probe", len(records))
        return None
    slots = np.maximum(slots_of_lead(shards, records, _LEAD), 0)

    def show(z: np.ndarray) -> dict[str, float]:
        return read_by_probe(z, columns["age"][records], columns["risk"][records])

    return _of_embeddings(model, shards, records, slots, show)


def make_map(model: nn.Module, data: RunData, path: pathlib.Path) -> Evaluate | None:
    """Returns what draws records by their embedding of lead II, or None where fewer than 3 have it.

    The records are those of validation or, if they are too few, of training.
    """
    shards, risk = data.shards, data.annotations.columns["risk"]
    records, slots, split = records_to_map(
        shards, data.annotations.is_validation, _LEAD, most=_RECORDS_ON_MAP
    )
    if len(records) < 3:
        logging.warning("%d records have lead %s: no embedding map", len(records), _LEAD)
        return None
    title = f"{len(records)} {split} records, lead {_LEAD}"

    def show(z: np.ndarray) -> dict[str, float]:
        plots.plot_embedding_map(z, risk[records], path, title=title)
        return {}

    return _of_embeddings(model, shards, records, slots, show)


def _of_embeddings(
    model: nn.Module,
    shards: ShardSet,
    records: np.ndarray,
    slots: np.ndarray,
    show: Callable[[np.ndarray], dict[str, float]],
) -> Evaluate:
    """Returns what embeds records, on process 0 alone, and shows them."""

    def evaluate(state: TrainState, stopped: Callable[[], bool]) -> dict[str, float] | None:
        if jax.process_index() != 0:
            return {}
        forward = Forward(model, state.evaluated["encoder"])
        z = []
        for start in range(0, len(records), _ROWS_AT_ONCE):
            if stopped():
                return None
            rows = slice(start, start + _ROWS_AT_ONCE)
            z.append(embed_records(forward, shards, records[rows], slots[rows]))
        return show(np.concatenate(z))

    return evaluate
