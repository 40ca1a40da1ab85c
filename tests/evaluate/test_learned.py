"""The report of what a run has learned."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib import image

from clef_jax import parallel
from clef_jax.data.noise import simulate_noise_bank
from clef_jax.data.shards import ShardSet
from clef_jax.data.signals import zscore
from clef_jax.evaluate.learned import FIGURES, plot_learned, what_was_learned
from clef_jax.models import create_model
from clef_jax.train.embed import make_embed_records, slots_of_lead


@pytest.mark.slow
def test_an_untrained_encoder_beside_itself_shows_no_difference(shards_folder, tmp_path):
    params = create_model("clef_small").init(jax.random.key(5), jnp.zeros((1, 64, 1)))["params"]
    noise = simulate_noise_bank(0, 30).signal
    found = what_was_learned("clef_small", params, ShardSet(shards_folder), noise, lead="I", seed=5)
    assert found["pretrained"] == found["untrained"]
    assert found["pretrained"].keys() == FIGURES.keys()
    assert 0 <= found["pretrained"]["retrieval"] <= 1
    plot_learned(found, tmp_path / "learned.png")
    assert image.imread(tmp_path / "learned.png").std() > 0


@pytest.mark.slow
def test_embeddings_of_records_are_the_models_of_the_z_scored_lead(shards_folder):
    shards = ShardSet(shards_folder)
    model = create_model("clef_small")
    params = jax.jit(model.init)(jax.random.key(5), jnp.zeros((1, 64, 1)))["params"]
    records = np.arange(5)
    slots = slots_of_lead(shards, records, "V3")
    assert (shards.lead_ids[records, slots] == 8).all()
    mesh = parallel.data_mesh(jax.devices()[:2])
    found = make_embed_records(model, mesh, batch_size=3)(params, shards, records, slots)
    signal = shards.read(records, slots) * shards.scale_mv[records, slots][:, None].astype(float)
    x = zscore(signal)[:, :, None].astype(np.float32)
    expected = jax.jit(model.apply)({"params": params}, x)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    shards.lead_ids[records] = -1
    assert (slots_of_lead(shards, records, "V3") == -1).all()
