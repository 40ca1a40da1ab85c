"""Embeddings of records in shards: the right lead, the right numbers."""

import jax
import numpy as np

from clef_jax.data.shards.store import ShardSet
from clef_jax.data.signals import zscore
from clef_jax.data.signals.leads import STANDARD_LEADS
from clef_jax.inference.shards import embed_records, records_to_map, slots_of_lead
from tests.embed_runs import tiny_encoder

LEAD_II = STANDARD_LEADS.index("II")


def test_embeddings_of_records_are_the_models_of_the_z_scored_lead(shards_folder):
    shards = ShardSet(shards_folder)
    encoder = tiny_encoder()
    records = np.arange(5)
    slots = slots_of_lead(shards, records, "V3")
    assert (shards.lead_ids[records, slots] == 8).all()
    found = embed_records(encoder.forward, shards, records, slots)
    signal = shards.read(records, slots) * shards.scale_mv[records, slots][:, None].astype(float)
    x = zscore(signal)[:, :, None].astype(np.float32)
    expected = jax.jit(encoder.model.apply)({"params": encoder.params}, x)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def test_of_no_records_there_are_no_embeddings(shards_folder):
    none = np.zeros(0, int)
    found = embed_records(tiny_encoder().forward, ShardSet(shards_folder), none, none)
    assert found.shape == (0, 64)


def test_a_lead_that_a_record_lacks_has_no_slot(shards_folder):
    shards = ShardSet(shards_folder)
    shards.lead_ids[:5] = -1
    assert (slots_of_lead(shards, np.arange(5), "V3") == -1).all()


def _without_lead(shards, records):
    """Gives records another lead where they had lead II."""
    rows = shards.lead_ids[records]
    rows[rows == LEAD_II] = STANDARD_LEADS.index("V1")
    shards.lead_ids[records] = rows


def test_the_map_shows_records_that_have_the_lead(shards_folder):
    shards = ShardSet(shards_folder)
    validation = np.flatnonzero(shards.annotations.is_validation)
    records, slots, split = records_to_map(
        shards, shards.annotations.is_validation, "II", most=1000
    )
    assert split == "validation"
    np.testing.assert_array_equal(records, validation)

    _without_lead(shards, validation[::2])
    records, slots, split = records_to_map(
        shards, shards.annotations.is_validation, "II", most=1000
    )
    assert split == "validation"
    np.testing.assert_array_equal(records, validation[1::2])
    assert (shards.lead_ids[records, slots] == LEAD_II).all()
    assert len(records_to_map(shards, shards.annotations.is_validation, "II", most=4)[0]) == 4


def test_the_map_falls_back_on_training_records_and_then_on_none(shards_folder):
    shards = ShardSet(shards_folder)
    _without_lead(shards, np.flatnonzero(shards.annotations.is_validation)[2:])
    records, slots, split = records_to_map(
        shards, shards.annotations.is_validation, "II", most=1000
    )
    assert split == "training"
    assert not shards.annotations.is_validation[records].any()
    _without_lead(shards, np.arange(len(shards)))
    assert len(records_to_map(shards, shards.annotations.is_validation, "II", most=1000)[0]) == 0
