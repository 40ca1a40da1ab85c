"""What earlier releases wrote loads and goes on; what later ones wrote is refused by name."""

import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from ml_collections import ConfigDict

import clef_jax
from clef_jax import hosts
from clef_jax.checkpoints.encoder import load_params, save_encoder
from clef_jax.checkpoints.items import params_sha256
from clef_jax.checkpoints.meta import CheckpointError, read_meta
from clef_jax.checkpoints.run import Checkpoints
from clef_jax.checkpoints.upgrades import FORMAT_VERSION, upgraded_meta
from clef_jax.data.shards.format import shard_faults
from clef_jax.data.shards.store import ShardSet
from clef_jax.inference import encoder_meta, fingerprints_agree
from clef_jax.methods import read_options
from clef_jax.models import ResNeXt1DConfig, build_model, registry
from clef_jax.train import optim
from clef_jax.train.metrics import read_metrics
from clef_jax.train.pretrain import pretrain
from clef_jax.train.run_record import run_differences
from clef_jax.train.settings import ConfigError
from clef_jax.train.state import create_state, state_from_items
from configs import clef_small

FIXTURES = pathlib.Path(__file__).parent / "fixtures"
RELEASE_0_1_0 = FIXTURES / "release_0_1_0"
# Written by release 0.1.0, and by the last code of format 2.
older_formats = pytest.mark.parametrize("older", [RELEASE_0_1_0, FIXTURES / "format_2"])


@pytest.fixture
def tiny(monkeypatch):
    """The size of the stored encoder and run, in the place of clef_small."""
    meta = json.loads((RELEASE_0_1_0 / "encoder" / "meta" / "metadata").read_text())
    config = registry.config_from_dict(meta["model"])
    monkeypatch.setitem(registry._CONFIGS, "clef_small", config)
    return config


@pytest.fixture
def run_meta():
    """The stored run's record, with the annotations of its shards, which it did not set apart."""
    meta = read_meta(RELEASE_0_1_0 / "run/checkpoints/4")
    assert "annotations" not in meta
    annotations = ShardSet(RELEASE_0_1_0 / "shards").annotations
    return meta | {"annotations": annotations.fingerprints(["risk"])}


def test_an_encoder_that_an_older_orbax_wrote_is_read(tmp_path):
    """Until 0.12.0 it put no commit_success.txt into folders on a disk."""
    older = tmp_path / "encoder"
    shutil.copytree(RELEASE_0_1_0 / "encoder", older)
    for marker in older.rglob("commit_success.txt"):
        marker.unlink()
    found, expected = (load_params(path)[0] for path in (older, RELEASE_0_1_0 / "encoder"))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def config_of_the_run(older=RELEASE_0_1_0, **values):
    """Today's configuration with the settings that a stored run had."""
    config = clef_small.get_config()
    stored = json.loads((older / "run" / "config.json").read_text())
    config.method.update(stored.pop("objective"))
    config.evaluators.validation = stored.pop("eval_steps")
    config.update(ConfigDict(stored))
    config.update(values)
    return config


def wanted(run_meta, **values):
    """What the run's meta would be now."""
    return run_meta | {"config": run_meta["config"] | values}


def stored_arrays(item):
    """What the release's own library makes of the folder, without ours."""
    return ocp.StandardCheckpointer().restore(item)


@older_formats
def test_an_older_encoder_loads(older, caplog):
    with caplog.at_level("INFO", logger="absl"):
        encoder = clef_jax.load_encoder(older / "encoder")
    unchecked = sum("has no checksums" in record.getMessage() for record in caplog.records)
    assert unchecked == (older == RELEASE_0_1_0)
    expected = stored_arrays(older / "encoder" / "params")
    jax.tree.map(np.testing.assert_array_equal, encoder.params, expected)
    assert fingerprints_agree(encoder.fingerprint, encoder.meta["fingerprint"])
    kernel = np.linspace(-1, 1, 24, dtype=np.float32).reshape(8, 3)
    np.testing.assert_array_equal(encoder.classifier["kernel"], kernel)


@older_formats
def test_older_shards_open_under_their_old_fingerprint(older):
    shards = ShardSet(older / "shards")
    assert shards.fingerprint == read_meta(older / "run/checkpoints/4")["shards"]
    assert len(shards) == 10 and shards.read([0, 9], [0, 0]).any(axis=1).all()
    assert shard_faults(older / "shards", checksums=True) == []


@older_formats
def test_an_older_run_loads_and_is_restored(older, tiny, tmp_path):
    workdir = shutil.copytree(older / "run", tmp_path / "run")
    params, meta = load_params(workdir)
    best = json.loads((older / "run" / "summary.json").read_text())["best_step"]
    assert meta["progress"]["best_step"] == best
    expected = stored_arrays(older / "run/checkpoints" / str(best) / "ema")
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    checkpoints = Checkpoints(workdir)
    optimizer = optim.make_optimizer(
        optim.warm_restarts(1e-4, 1), weight_decay=5e-4, clip_norm=None
    )
    method = read_options({"name": "clef"}).create(build_model(tiny), np.zeros(0))
    like = jax.eval_shape(
        lambda: create_state(
            method, optimizer, jax.random.key(0), jnp.zeros((1, 5000, 1)), with_ema=True
        )
    )
    like = hosts.shapes_at(like, hosts.replicated(hosts.data_mesh()))
    state = state_from_items(checkpoints.restore(like.items()))
    checkpoints.close()
    stored = {
        item: stored_arrays(older / "run/checkpoints/4" / item)
        for item in ("params", "ema", "rest")
    }
    jax.tree.map(np.testing.assert_array_equal, state.params, {"encoder": stored["params"]})
    jax.tree.map(np.testing.assert_array_equal, state.ema, {"encoder": stored["ema"]})
    assert int(state.step) == stored["rest"]["step"] == 4
    adam, stored_adam = state.opt_state[0], stored["rest"]["opt_state"][0]
    assert int(adam.count) == stored_adam["count"] == 4
    for name in ("mu", "nu"):
        expected = {"encoder": stored_adam[name]}
        jax.tree.map(np.testing.assert_array_equal, getattr(adam, name), expected)
        assert any(leaf.any() for leaf in jax.tree.leaves(expected))
    assert jax.tree.structure(state) == jax.tree.structure(like)


@pytest.mark.slow
@older_formats
def test_an_older_run_goes_on(older, tiny, tmp_path):
    workdir = shutil.copytree(older / "run", tmp_path / "run")
    encoder = shutil.copytree(older / "encoder", tmp_path / "moved")
    config = config_of_the_run(older, steps=6, init=str(encoder))
    report = pretrain(config, str(older / "shards"), str(workdir))
    assert report["status"] == "finished" and report["step"] == 6
    params, meta = load_params(workdir / "checkpoints" / "6")
    assert meta["format_version"] == 3 and meta["versions"]["clef_jax"] == clef_jax.__version__
    assert meta["init"]["path"] == "encoder" and meta["weights_sha256"] == params_sha256(params)
    assert meta["mesh"]["devices"] == 4
    rows = read_metrics(workdir / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, 7))
    # To the losses of a run of today that was never interrupted, on other devices than its first.
    pretrain(config, str(older / "shards"), str(tmp_path / "whole"))
    whole = read_metrics(tmp_path / "whole" / "metrics.jsonl")
    for name in ("train/loss", "train/grad_norm", "validation/loss"):
        assert rows[-1][name] == pytest.approx(whole[-1][name], rel=1e-4)


@older_formats
def test_todays_configuration_continues_an_older_run(older):
    found = read_meta(older / "run/checkpoints/4") | {"annotations": {}}
    for unset in ((), ("temperature", "floor", "preset")):  # Then they are the preset's.
        config = config_of_the_run(older)
        config.method.update({name: None for name in unset})
        now = json.loads(json.dumps(config.to_dict()))
        assert run_differences(found, found | {"config": now}) == []
        config.method.weighting = "direct"
        now = json.loads(json.dumps(config.to_dict()))
        assert run_differences(found, found | {"config": now}) == [
            "config.method.weighting was 'softmax' and is 'direct'"
        ]


def test_a_run_goes_on_that_could_trace_steps_by_their_number_alone(run_meta, tmp_path):
    stored = run_meta | {"format_version": 3, "config": run_meta["config"] | {"profile_steps": 5}}
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "metadata").write_text(json.dumps(stored))
    now = run_meta | {"config": run_meta["config"] | {"profile": "2:4"}}
    assert run_differences(read_meta(tmp_path), now) == []


def test_an_older_run_of_simclr_goes_on_without_the_options_of_clef():
    objective = {"name": "simclr", "preset": "paper", "temperature": 0.1, "floor": 0.2}
    found = upgraded_meta({"format_version": 2, "config": {"seed": 1, "objective": objective}})
    assert found["config"] == {"seed": 1, "method": {"name": "simclr", "temperature": 0.1}}


@pytest.mark.slow
@older_formats
def test_a_run_of_before_annotations_has_those_of_its_shards(older, tiny, tmp_path):
    workdir = shutil.copytree(older / "run", tmp_path / "run")
    encoder = str(shutil.copytree(older / "encoder", tmp_path / "moved"))
    table = ["record,risk,completeness", "r2,,"]
    table += [f"r{i},{i + 0.5},{0.5 if i else ''}" for i in (9, 8, 7, 6, 5, 4, 3, 1, 0)]
    other = [line.replace("r9,9.5", "r9,9.25") for line in table]
    for name, lines in (("same", table), ("other", other)):
        (tmp_path / f"{name}.csv").write_text("\n".join(lines))

    def go_on(**values):
        config = config_of_the_run(older, steps=5, init=encoder, **values)
        return pretrain(config, str(older / "shards"), str(workdir))

    with pytest.raises(ConfigError, match="go on like this: another annotation of risk. Set"):
        go_on(annotations=str(tmp_path / "other.csv"))
    with pytest.raises(ConfigError, match="go on like this: another split. Set"):
        go_on(validation_fraction=0.3)
    report = go_on(annotations=str(tmp_path / "same.csv"), validation_fraction=0.4)
    assert report["step"] == 5


def test_a_key_that_a_run_lacks_has_the_value_of_its_time(run_meta, caplog):
    older = wanted(run_meta)
    for key in ("remat", "clip_norm", "tensorboard"):
        del older["config"][key]
    assert run_differences(older, run_meta) == []
    changed = wanted(run_meta, clip_norm=1.0, remat=True, tensorboard=True)
    assert run_differences(older, changed) == [
        "config.clip_norm was None and is 1.0",
        "config.remat was False and is True",
    ]


def test_a_key_of_later_releases_does_not_refuse_older_runs_nor_pass_unseen(run_meta, caplog):
    method = run_meta["config"]["method"] | {"combine": "mean"}
    newer = wanted(run_meta, brand_new=3, method=method)
    with caplog.at_level("WARNING", logger="absl"):
        assert run_differences(run_meta, newer) == []
    (message,) = [record.getMessage() for record in caplog.records]
    assert "config.brand_new came after the run began; it is 3 now" in message
    (difference,) = run_differences(wanted(run_meta, brand_new=3), run_meta)
    assert "config.brand_new was 3" in difference and clef_jax.__version__ in difference
    later = wanted(run_meta, method=method | {"margin": 0.1})
    (difference,) = run_differences(later, run_meta)
    assert "config.method.margin is 0.1" in difference and clef_jax.__version__ in difference


def test_noise_and_initial_weights_may_move_but_not_change(run_meta, tiny, tmp_path):
    moved = shutil.copytree(RELEASE_0_1_0 / "encoder", tmp_path / "moved")
    assert run_differences(run_meta, wanted(run_meta, noise="elsewhere", init=str(moved))) == []
    assert run_differences(run_meta, wanted(run_meta) | {"noise": "x"}) == ["another noise bank"]
    params, _ = load_params(moved)
    other = jax.tree.map(lambda leaf: leaf + 1, params)
    for name, weights in (("same", params), ("other", other)):
        save_encoder(tmp_path / name, weights, encoder_meta(tiny, weights, {}))
    noted = run_meta["init"] | {"sha256": params_sha256(params)}
    same, changed, none = (
        run_differences(run_meta | {"init": noted}, wanted(run_meta, init=path))
        for path in (str(tmp_path / "same"), str(tmp_path / "other"), "")
    )
    assert same == [] and changed == none == ["config.init holds other initial weights"]
    with pytest.raises(CheckpointError, match="nowhere: no checkpoint here"):
        run_differences(run_meta, wanted(run_meta, init=str(tmp_path / "nowhere")))


def test_an_encoder_that_lacks_a_field_loads_with_its_default(tmp_path):
    params, meta = load_params(RELEASE_0_1_0 / "encoder")
    older = meta | {"model": {k: v for k, v in meta["model"].items() if k != "kernel_size"}}
    save_encoder(tmp_path / "e", params, older)
    assert clef_jax.load_encoder(tmp_path / "e").config == ResNeXt1DConfig(
        **{k: tuple(v) if isinstance(v, list) else v for k, v in meta["model"].items()}
    )


@pytest.mark.parametrize(
    ("drop", "add", "message"),
    [
        ((), {"norm": "batch"}, "unknown norm"),
        (("ratio", "stem_width"), {}, "missing ratio, stem_width"),
    ],
)
def test_an_encoder_of_other_fields_is_refused_with_both_releases(tmp_path, drop, add, message):
    params, meta = load_params(RELEASE_0_1_0 / "encoder")
    model = {k: v for k, v in meta["model"].items() if k not in drop} | add
    versions = meta["versions"] | {"clef_jax": "9.0"}
    save_encoder(tmp_path / "e", params, meta | {"model": model, "versions": versions})
    with pytest.raises(CheckpointError) as error:
        clef_jax.load_encoder(tmp_path / "e")
    for part in (message, f"clef_jax, {clef_jax.__version__}", "clef_jax 9.0 wrote it"):
        assert part in str(error.value)


def test_new_encoders_say_their_format_and_release(tiny):
    params, _ = load_params(RELEASE_0_1_0 / "encoder")
    meta = encoder_meta(tiny, params, {})
    assert meta["format_version"] == FORMAT_VERSION
    assert meta["versions"]["clef_jax"] == clef_jax.__version__
