"""Evaluators of embeddings: the quick probe, and the map."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from clef_jax import hosts
from clef_jax.data.shards.store import ShardSet
from clef_jax.inference.forward import Forward
from clef_jax.inference.shards import embed_records, records_to_map, slots_of_lead
from clef_jax.train import plots
from clef_jax.train.evaluators.evaluator import Evaluate, Evaluator, Inputs, TooFew
from clef_jax.train.evaluators.probe import read_by_probe
from clef_jax.train.state import TrainState

_LEAD = "II"
_RECORDS_ON_MAP, _PATIENTS_PROBED = 4096, 1000
_ROWS_AT_ONCE = 256


def make_probe(inputs: Inputs, period: int) -> Evaluator:
    """Returns the quick probe of the validation patients.

    It reads the first record of each by lead II or, where there is none, by its first lead.

    Raises:
        TooFew: There are fewer than two.
    """
    shards, columns = inputs.shards, inputs.annotations.columns
    held_out = np.flatnonzero(inputs.annotations.is_validation)
    _, first = np.unique(shards.patient_code[held_out], return_index=True)
    records = held_out[first]
    if len(records) > _PATIENTS_PROBED:
        records = np.sort(np.random.default_rng(0).permutation(records)[:_PATIENTS_PROBED])
    if len(records) < 2:
        raise TooFew(f"{len(records)} validation patients are too few for the probe")
    slots = np.maximum(slots_of_lead(shards, records, _LEAD), 0)

    def show(z: np.ndarray) -> dict[str, float]:
        return read_by_probe(z, columns["age"][records], columns["risk"][records])

    return Evaluator(_of_embeddings(inputs.model, shards, records, slots, show), period)


def make_map(inputs: Inputs, period: int) -> Evaluator:
    """Returns what draws records by their embedding of lead II, `embedding_map.png`.

    The records are those of validation or, if they are too few, of training.

    Raises:
        TooFew: Fewer than 3 have the lead.
    """
    shards, risk = inputs.shards, inputs.annotations.columns["risk"]
    records, slots, split = records_to_map(
        shards, inputs.annotations.is_validation, _LEAD, most=_RECORDS_ON_MAP
    )
    if len(records) < 3:
        raise TooFew(f"{len(records)} records have lead {_LEAD}, too few for the embedding map")
    path = inputs.plots / "embedding_map.png"
    title = f"{len(records)} {split} records, lead {_LEAD}"

    def show(z: np.ndarray) -> dict[str, float]:
        plots.plot_embedding_map(z, risk[records], path, title=title)
        return {}

    return Evaluator(_of_embeddings(inputs.model, shards, records, slots, show), period)


def _of_embeddings(
    model: nn.Module,
    shards: ShardSet,
    records: np.ndarray,
    slots: np.ndarray,
    show: Callable[[np.ndarray], dict[str, float]],
) -> Evaluate:
    """Returns what embeds records, on process 0 alone, and shows them.

    It multiplies in float32 whatever the run does, as everything that loads its checkpoints.
    """
    model = model.clone(dtype=jnp.float32)

    def evaluate(state: TrainState, stopped: Callable[[], bool]) -> dict[str, float] | None:
        encoder = hosts.whole(state.evaluated["encoder"])
        if jax.process_index() != 0:
            return {}
        forward = Forward(model, encoder)
        z = []
        for start in range(0, len(records), _ROWS_AT_ONCE):
            if stopped():
                return None
            rows = slice(start, start + _ROWS_AT_ONCE)
            z.append(embed_records(forward, shards, records[rows], slots[rows]))
        return show(np.concatenate(z))

    return evaluate
