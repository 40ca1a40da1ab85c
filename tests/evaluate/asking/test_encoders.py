"""Who is compared: names, untrained encoders of the same size, and no encoder twice."""

import numpy as np
import pytest

from clef_jax.checkpoints.encoder import save_encoder
from clef_jax.checkpoints.patients import patient_hashes, with_patients
from clef_jax.evaluate.asking.encoders import (
    SameWeightsError,
    contestants,
    overlap,
)
from clef_jax.inference import Encoder, encoder_meta, load_encoder
from tests.embed_runs import TINY, save, tiny_encoder


def test_untrained_encoders_are_of_the_sizes_compared_and_differ_by_seed(weights, tmp_path):
    other = save(tiny_encoder(seed=1), tmp_path / "b" / "tiny")
    found = contestants([weights, "random", other], seeds=2)
    assert [one.name for one in found[2:]] == [f"random {TINY.name}"] * 2
    assert [one.seed for one in found] == [0, 0, 0, 1]
    ends = [one.name.split("/") for one in found[:2]]
    assert ends[0] != ends[1] and {len(end) for end in ends} == {2} and ends[1] == ["b", "tiny"]
    assert len({one.weights for one in found}) == 4
    assert overlap(found[2].encoder, ["b"]) == "0 of 1 tested patients"
    x = np.random.default_rng(0).normal(size=(2, 5000, 1)).astype(np.float32)
    embeddings = [one.encoder.forward(x).embedding for one in found]
    assert all(e.shape == (2, 64) and np.isfinite(e).all() for e in embeddings)
    again = contestants(["random", weights], seeds=2)
    assert [one.weights for one in again[1:]] == [one.weights for one in found[2:]]
    assert again[0].name == "tiny"


def test_the_same_weights_twice_are_refused(weights, tmp_path):
    copy = save(tiny_encoder(), tmp_path / "copy")
    with pytest.raises(SameWeightsError, match="copy are the same encoder: their fingerprints"):
        contestants([weights, copy], seeds=1)
    with pytest.raises(SameWeightsError, match="leave one out"):
        contestants([weights, weights], seeds=1)


def test_overlap_is_counted_where_the_checkpoint_says_whom_it_knows(tmp_path, weights):
    assert overlap(load_encoder(weights), ["a"]) == "unknown: the checkpoint does not say"
    encoder = tiny_encoder()
    meta = with_patients(encoder_meta(TINY, encoder.params, {}), patient_hashes("abc"))
    save_encoder(tmp_path / "w", encoder.params, meta)
    told = load_encoder(tmp_path / "w")
    assert overlap(told, ["b", "c", "c", "d"]) == "2 of 3 tested patients"
    assert overlap(Encoder(TINY, encoder.params), ["b"]).startswith("unknown")
