"""A preprocessing at 250 Hz through shards, pretraining and embedding; and what refuses to mix."""

import dataclasses
import json
import pathlib

import numpy as np
import pyarrow.parquet as pq
import pytest

import clef_jax
from clef_jax.checkpoints.encoder import save_encoder
from clef_jax.data.demo import cohort
from clef_jax.data.recordings import read_recording
from clef_jax.data.shards.plan import WriteOptions
from clef_jax.data.shards.store import ShardSet
from clef_jax.data.shards.write import write_shards
from clef_jax.data.signals.recipe import recipe
from clef_jax.data.signals.spec import CLEF_V2, ECGFOUNDER
from clef_jax.inference import encoder_meta
from clef_jax.models import registry
from clef_jax.train.pretrain import pretrain
from clef_jax.train.settings import ConfigError
from configs import demo
from tests.embed_runs import TINY, embed, errors
from tests.oracles.specs import SPEC_VERSION_1
from tests.parameters import drawn

OF_VERSION_1 = pathlib.Path(__file__).parents[1] / "fixtures" / "release_0_1_0" / "shards"
AT_250 = dataclasses.replace(CLEF_V2, fs=250.0, samples=2000, band_hz=(0.5, 35.0))
SETTINGS = {
    "steps": 20,
    "batch_size": 8,
    "log_steps": 10,
    "evaluators.validation": 20,
    "warmup_steps": 2,
}


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(registry._CONFIGS, "clef_small", TINY)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    cohort.write_simulated_cohort(folder, 24, seed=1)
    return folder


@pytest.fixture(scope="module")
def shards_at_250(recordings, tmp_path_factory):
    out = tmp_path_factory.mktemp("shards") / "at_250"
    options = WriteOptions(spec=AT_250)
    write_shards(
        recordings, out, validation_fraction=0.3, options=options, workers=1, progress=False
    )
    return out


def config_of(**values):
    config = demo.get_config()
    config.update_from_flattened_dict(SETTINGS | values)
    return config


def test_shards_hold_what_their_spec_makes(recordings, shards_at_250):
    shards = ShardSet(shards_at_250)
    assert shards.spec == AT_250
    steps = shards.read([0, 3], [1, 11])
    assert steps.shape == (2, 2000)
    names = {}
    exec(recipe(AT_250), names)
    for row, (record, slot) in enumerate([(0, 1), (3, 11)]):
        recording = read_recording(recordings / shards.record[record])
        lead = shards.montage.leads[shards.lead_ids[record, slot]]
        x = recording.signal_mv[recording.leads.index(lead)]
        z = (steps[row] - steps[row].mean()) / steps[row].std()
        expected = names["encoder_input"](x, recording.fs)
        np.testing.assert_allclose(z, expected, rtol=0, atol=1.1 * np.ptp(z) / 65_000)


@pytest.mark.slow
def test_a_run_at_250_hz_and_embedding_with_its_encoder(tiny, recordings, shards_at_250, tmp_path):
    report = pretrain(config_of(), str(shards_at_250), str(tmp_path / "run"))
    assert (report["status"], report["step"]) == ("finished", 20)
    encoder = clef_jax.load_encoder(tmp_path / "run")
    assert encoder.preprocessing == AT_250
    shards = ShardSet(shards_at_250)
    names = {}
    exec(recipe(AT_250), names)
    recording = read_recording(recordings / shards.record[0])
    x = names["encoder_input"](recording.signal_mv[0], recording.fs)
    expected = np.asarray(encoder.apply(x[None].astype(np.float32)))
    found = encoder.embed_recording(recordings / shards.record[0], leads="I").embedding
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    out = tmp_path / "e.parquet"
    assert embed(shards_at_250, "--weights", tmp_path / "run", "--out", out) == 0
    stored = np.stack(pq.read_table(out)["embedding"].to_pylist())
    assert len(stored) == len(shards)
    np.testing.assert_allclose(stored[:1], expected, rtol=0, atol=1e-3 * np.abs(expected).max())
    about = json.loads(pq.read_schema(out).metadata[b"clef_jax"])
    assert about["preprocessing"] == AT_250.to_dict() and about["settings"]["window_s"] == 8.0


@pytest.fixture
def weights(tmp_path):
    """The same weights, as if they needed this or that preprocessing."""
    model = registry.build_model(TINY)
    params = drawn(model, np.zeros((1, 500, 1), np.float32))
    for name, spec in (("clef", CLEF_V2), ("at_250", AT_250), ("ecgfounder", ECGFOUNDER)):
        save_encoder(tmp_path / name, params, encoder_meta(TINY, params, {}, spec))
    return tmp_path


def test_a_run_refuses_initial_weights_of_another_preprocessing(tiny, shards_at_250, weights):
    with pytest.raises(ConfigError) as error:
        pretrain(config_of(init=str(weights / "clef")), str(shards_at_250), str(weights / "run"))
    for part in ("clef: its weights", "at_250 has: fs 500.0 instead of 250.0, samples 5000 instead "
                 "of 2000, band_hz [0.67, 40.0] instead of [0.5, 35.0];"):  # fmt: skip
        assert part in str(error.value)


def test_shards_of_another_preprocessing_are_not_embedded(recordings, shards_at_250, weights):
    out = weights / "e.parquet"
    one = next(recordings.rglob("*.hea"))
    assert embed(shards_at_250, one, "--weights", weights / "ecgfounder", "--out", out) == 3
    (message,) = errors(out).values()
    assert "the shards' preprocessing is not the encoder's: fs 250.0 instead of 500.0" in message
    assert "gaps linear instead of zeros" in message and str(shards_at_250) in message


def test_a_table_of_another_preprocessing_is_not_appended_to(recordings, weights, capsys):
    out, one = weights / "e.parquet", next(recordings.rglob("*.hea"))
    assert embed(one, "--weights", weights / "clef", "--out", out, "--window", "8") == 0
    before = out.read_bytes()
    assert embed(one, "--weights", weights / "at_250", "--out", out) == 1
    message = capsys.readouterr().err
    assert "made in another way (band_hz: [0.67, 40.0] there, [0.5, 35.0] now; fs: 500" in message
    assert out.read_bytes() == before


def test_a_table_of_an_earlier_release_is_appended_to(recordings, weights):
    out, (one, two) = weights / "e.parquet", sorted(recordings.rglob("*.hea"))[:2]
    assert embed(one, "--weights", weights / "clef", "--out", out) == 0
    table = pq.read_table(out)
    about = json.loads(table.schema.metadata[b"clef_jax"])
    del about["preprocessing"]["normalisation"]  # It could not be chosen then.
    pq.write_table(table.replace_schema_metadata({"clef_jax": json.dumps(about)}), out)
    assert embed(two, "--weights", weights / "clef", "--out", out) == 0
    assert pq.read_metadata(out).num_rows == 2


def test_a_table_tells_the_version_that_its_shards_were_made_in(recordings, weights, capsys):
    out, one = weights / "e.parquet", next(recordings.rglob("*.hea"))
    clef = ("--weights", weights / "clef", "--lead", "II")
    assert embed(OF_VERSION_1, *clef, "--out", out) == 0
    assert json.loads(pq.read_schema(out).metadata[b"clef_jax"])["preprocessing"] == SPEC_VERSION_1
    assert embed(one, *clef, "--out", out) == 1
    assert "version: 1 there, 2 now" in capsys.readouterr().err
    mixed = weights / "mixed.parquet"
    assert embed(one, OF_VERSION_1, *clef, "--out", mixed) == 1
    message = capsys.readouterr().err
    assert f"{OF_VERSION_1} in 1, the recordings in 2; embed them into tables of their" in message
