"""Encoders from folders: what is loaded, and what is refused."""

import json
import pathlib
import shutil

import jax
import numpy as np
import pytest

import clef_jax
from clef_jax.checkpoints.encoder import save_encoder
from clef_jax.checkpoints.meta import CheckpointError
from clef_jax.data.signals.spec import CLEF_V2
from clef_jax.inference import Encoder, encoder_meta, fingerprints_agree
from tests.embed_runs import tiny_encoder
from tests.oracles.specs import SPEC_VERSION_1

FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures"


@pytest.fixture(scope="module")
def encoder():
    return tiny_encoder()


@pytest.fixture
def folder(encoder, tmp_path):
    meta = encoder_meta(encoder.config, encoder.params, {"source": {"file": "made here"}})
    save_encoder(tmp_path / "weights", encoder.params, meta)
    return tmp_path / "weights"


def test_load_encoder(encoder, folder):
    loaded = clef_jax.load_encoder(folder)
    assert loaded.config == encoder.config
    assert loaded.preprocessing == CLEF_V2
    assert loaded.meta["provenance"] == {"source": {"file": "made here"}}
    assert fingerprints_agree(loaded.fingerprint, loaded.meta["fingerprint"])
    jax.tree.map(np.testing.assert_array_equal, loaded.params, encoder.params)
    changed = jax.tree.map(lambda a: a * 1.01, encoder.params)
    other = Encoder(encoder.config, changed)
    assert not fingerprints_agree(other.fingerprint, loaded.meta["fingerprint"])


def test_weights_of_preprocessing_version_1_are_used_with_todays(encoder, tmp_path):
    meta = encoder_meta(encoder.config, encoder.params, {}) | {"preprocessing": SPEC_VERSION_1}
    save_encoder(tmp_path / "weights", encoder.params, meta)
    loaded = clef_jax.load_encoder(tmp_path / "weights")
    assert loaded.preprocessing == CLEF_V2
    assert loaded.meta["preprocessing"] == SPEC_VERSION_1
    meta["preprocessing"] = SPEC_VERSION_1 | {"fs": 250.0}
    save_encoder(tmp_path / "others", encoder.params, meta)
    with pytest.raises(CheckpointError, match="fs 250.0 instead of 500.0; use the rel"):
        clef_jax.load_encoder(tmp_path / "others")


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("preprocessing", {"version": 99}, "other preprocessing.*version 99 instead of 2"),
        ("model", {"name": "clef_small"}, "describes no encoder"),
    ],
)
def test_checkpoints_of_another_kind_are_refused(encoder, tmp_path, field, value, message):
    meta = encoder_meta(encoder.config, encoder.params, {})
    meta[field] = meta[field] | value if field == "preprocessing" else value
    save_encoder(tmp_path / "weights", encoder.params, meta)
    with pytest.raises(CheckpointError, match=message):
        clef_jax.load_encoder(tmp_path / "weights")


def test_params_that_do_not_fit_the_model_are_refused(encoder, tmp_path):
    meta = encoder_meta(encoder.config, encoder.params, {})
    params = jax.tree.map(np.asarray, encoder.params) | {"extra": {"kernel": np.zeros(2)}}
    params["stem"] = params["stem"] | {"bias": np.zeros(7, np.float32)}
    save_encoder(tmp_path / "weights", params, meta)
    with pytest.raises(CheckpointError, match="2 parameters.*extra/kernel.*stem/bias"):
        clef_jax.load_encoder(tmp_path / "weights")
    shutil.rmtree(tmp_path / "weights")
    with pytest.raises(CheckpointError, match="no checkpoint here"):
        clef_jax.load_encoder(tmp_path / "weights")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("format_version",), "x"),
        (("format_version",), None),
        (("model",), [1]),
        (("model", "stage_widths"), "abc"),
        (("model", "stage_widths"), [-4, 8]),
        (("model", "stage_blocks"), [1]),
        (("model", "group_width"), 0),
        (("model", "ratio"), None),
        (("model", "stem_width"), 10**12),
        (("preprocessing",), [1]),
    ],
)
def test_a_meta_record_of_other_shape_is_refused(tmp_path, place, value):
    """In a folder of format 1, whose files have no checksums."""
    folder = shutil.copytree(FIXTURES / "release_0_1_0" / "encoder", tmp_path / "encoder")
    path = folder / "meta" / "metadata"
    meta = json.loads(path.read_text())
    inner = meta
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    path.write_text(json.dumps(meta))
    with pytest.raises(CheckpointError, match="encoder: .*(convert it again|copy it again)"):
        clef_jax.load_encoder(folder)
