"""What earlier releases wrote loads and goes on; what later ones wrote is refused by name."""

import json
import pathlib
import shutil

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from ml_collections import ConfigDict

import clef_jax
from clef_jax import hosts
from clef_jax.checkpoints.encoder import load_params, save_encoder
from clef_jax.checkpoints.items import params_sha256
from clef_jax.checkpoints.meta import FORMAT_VERSION, CheckpointError
from clef_jax.checkpoints.run import Checkpoints
from clef_jax.data.shards.format import shard_faults
from clef_jax.data.shards.store import ShardSet
from clef_jax.inference import encoder_meta, fingerprints_agree
from clef_jax.models import ResNeXt1DConfig, build_model, registry
from clef_jax.train import optim
from clef_jax.train.loop import pretrain
from clef_jax.train.parts import NEEDED, ConfigError
from clef_jax.train.same_run import run_differences
from clef_jax.train.state import create_state
from configs import clef_small

RELEASE_0_1_0 = pathlib.Path(__file__).parent / "fixtures" / "release_0_1_0"


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
    meta = json.loads((RELEASE_0_1_0 / "run/checkpoints/4/meta/metadata").read_text())
    assert "annotations" not in meta
    return meta | {
        "annotations": ShardSet(RELEASE_0_1_0 / "shards").annotations.fingerprints(NEEDED)
    }


def config_of_the_run(**values):
    config = clef_small.get_config()
    stored = json.loads((RELEASE_0_1_0 / "run" / "config.json").read_text())
    config.update(ConfigDict({key: value for key, value in stored.items() if key in config}))
    config.update(values)
    return config


def wanted(run_meta, **values):
    """What the run's meta would be now."""
    return run_meta | {"config": run_meta["config"] | values}


def stored_arrays(item):
    """What the release's own library makes of the folder, without ours."""
    return ocp.StandardCheckpointer().restore(item)


def test_an_encoder_of_the_first_release_loads(caplog):
    with caplog.at_level("INFO", logger="absl"):
        encoder = clef_jax.load_encoder(RELEASE_0_1_0 / "encoder")
    assert sum("has no checksums" in record.getMessage() for record in caplog.records) == 1
    expected = stored_arrays(RELEASE_0_1_0 / "encoder" / "params")
    jax.tree.map(np.testing.assert_array_equal, encoder.params, expected)
    assert fingerprints_agree(encoder.fingerprint, encoder.meta["fingerprint"])
    kernel = np.linspace(-1, 1, 24, dtype=np.float32).reshape(8, 3)
    np.testing.assert_array_equal(encoder.classifier["kernel"], kernel)


def test_shards_of_the_first_release_open_under_their_old_fingerprint(run_meta):
    shards = ShardSet(RELEASE_0_1_0 / "shards")
    assert shards.fingerprint == run_meta["shards"]
    assert len(shards) == 10 and shards.read([0, 9], [0, 0]).any(axis=1).all()
    assert shard_faults(RELEASE_0_1_0 / "shards", checksums=True) == []


def test_a_run_of_the_first_release_loads_and_is_restored(tiny, tmp_path):
    workdir = shutil.copytree(RELEASE_0_1_0 / "run", tmp_path / "run")
    params, meta = load_params(workdir)
    assert meta["progress"]["best_step"] == 2
    expected = stored_arrays(RELEASE_0_1_0 / "run/checkpoints/2/ema")
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    checkpoints = Checkpoints(workdir)
    optimizer = optim.make_optimizer(
        optim.warm_restarts(1e-4, 1), weight_decay=5e-4, clip_norm=None
    )
    x = np.zeros((1, 5000, 1), np.float32)
    like = jax.eval_shape(
        lambda key: create_state(
            build_model(tiny).init(key, x)["params"], optimizer, with_ema=True
        ),
        jax.random.key(0),
    )
    state = checkpoints.restore(like, hosts.data_mesh())
    checkpoints.close()
    expected = stored_arrays(RELEASE_0_1_0 / "run/checkpoints/4/params")
    jax.tree.map(np.testing.assert_array_equal, state.params, expected)
    assert int(state.step) == 4


@pytest.mark.slow
def test_a_run_of_the_first_release_goes_on(tiny, tmp_path):
    workdir = shutil.copytree(RELEASE_0_1_0 / "run", tmp_path / "run")
    encoder = shutil.copytree(RELEASE_0_1_0 / "encoder", tmp_path / "moved")
    config = config_of_the_run(steps=6, init=str(encoder))
    summary = pretrain(config, str(RELEASE_0_1_0 / "shards"), str(workdir))
    assert summary["status"] == "finished" and summary["step"] == 6
    _, meta = load_params(workdir / "checkpoints" / "6")
    assert meta["format_version"] == 2 and meta["versions"]["clef_jax"] == clef_jax.__version__
    assert meta["init"]["path"] == "encoder"
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 7))


@pytest.mark.parametrize("written", ["release_0_1_0", "format_2"])
def test_a_run_of_before_annotations_has_those_of_its_shards(tiny, tmp_path, written):
    fixture = RELEASE_0_1_0.parent / written
    workdir = shutil.copytree(fixture / "run", tmp_path / "run")
    encoder = str(shutil.copytree(fixture / "encoder", tmp_path / "moved"))
    table = ["record,risk,completeness", "r2,,"]
    table += [f"r{i},{i + 0.5},{0.5 if i else ''}" for i in (9, 8, 7, 6, 5, 4, 3, 1, 0)]
    other = [line.replace("r9,9.5", "r9,9.25") for line in table]
    for name, lines in (("same", table), ("other", other)):
        (tmp_path / f"{name}.csv").write_text("\n".join(lines))

    def go_on(**values):
        config = config_of_the_run(steps=5, init=encoder, **values)
        return pretrain(config, str(fixture / "shards"), str(workdir))

    with pytest.raises(ConfigError, match="go on like this: another annotation of risk. Set"):
        go_on(annotations=str(tmp_path / "other.csv"))
    with pytest.raises(ConfigError, match="go on like this: another split. Set"):
        go_on(validation_fraction=0.3)
    summary = go_on(annotations=str(tmp_path / "same.csv"), validation_fraction=0.4)
    assert summary["step"] == 5


def test_todays_configuration_continues_a_run_of_the_first_release(run_meta):
    now = json.loads(json.dumps(config_of_the_run().to_dict()))
    assert run_differences(run_meta, run_meta | {"config": now}) == []


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
    objective = run_meta["config"]["objective"] | {"margin": 0.1}
    newer = wanted(run_meta, brand_new=3, objective=objective)
    with caplog.at_level("WARNING", logger="absl"):
        assert run_differences(run_meta, newer) == []
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert "config.brand_new came after the run began; it is 3 now" in messages[0]
    assert "config.objective.margin" in messages[1]
    (difference,) = run_differences(wanted(run_meta, brand_new=3), run_meta)
    assert "config.brand_new was 3" in difference and clef_jax.__version__ in difference


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
