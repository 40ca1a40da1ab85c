"""A run's convolutions: the user's table at its beginning, and the same algorithms to its end."""

import types

import jax
import numpy as np
import pytest

from clef_jax import hosts
from clef_jax.checkpoints.encoder import load_params
from clef_jax.hardware.caches import device_name
from clef_jax.ops.grouped_conv import tuned
from clef_jax.train import convolutions
from clef_jax.train.convolutions import run_algorithms
from clef_jax.train.pretrain import pretrain
from clef_jax.train.settings import read_settings
from tests.train.runs import (
    SETTINGS,
    STEPS,
    TINY,
    arrays_of_checkpoint,
    assert_same_result,
    config_of,
    finish,
    start_two_processes,
)

# Of the tiny encoder's layers none has its usual algorithms.
FORCED = {str(c.layer): ["pack", "native", "matmul:2"] for c in TINY.convolutions(5000)}
LATER = {layer: ["conv:2", "conv:2", "conv:2"] for layer in FORCED}


def conditions(**values):
    """Those of this process's runs."""
    usual = {
        "device": device_name(jax.devices()[0]),
        "dtype": "float32",
        "views": 2 * SETTINGS["batch_size"] // jax.device_count(),
        "samples": 5000,
    }
    return tuned.Conditions(**usual | values)


def another_device():
    """A mesh of a CPU that says it is a GPU."""
    device = types.SimpleNamespace(device_kind="Test GPU", platform="gpu")
    return types.SimpleNamespace(devices=np.array([device]), size=1)


TEST_GPU = {"device": "Test GPU", "views": 2, "samples": 100}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def config(**values):
    """A run without evaluations, which one that ends early would make up for its end."""
    never = dict.fromkeys(("evaluators__validation", "evaluators__probe", "evaluators__map"), -1)
    return config_of(**never, **values)


@pytest.mark.slow
def test_a_run_records_the_users_algorithms(tiny, shards_folder, tmp_path, cache):
    tuned.write_table(conditions(), FORCED)
    pretrain(config(tune=True, steps=2, checkpoint_steps=2), shards_folder, tmp_path / "run")
    assert load_params(tmp_path / "run" / "checkpoints" / "2")[1]["convolutions"] == FORCED


@pytest.mark.slow
def test_a_run_keeps_the_algorithms_that_it_began_with(tiny, shards_folder, tmp_path, cache):
    other = {"c7x7 s1 k16": ["native"] * 3}  # Of another encoder: no part of this run.
    tuned.write_table(conditions(), FORCED | other)
    whole, resumed, usual = (tmp_path / name for name in ("whole", "resumed", "usual"))
    pretrain(config(tune=True), shards_folder, whole)
    pretrain(config(tune=True, steps=4), shards_folder, resumed)
    tuned.write_table(conditions(), LATER)
    pretrain(config(tune=False), shards_folder, resumed)
    assert_same_result(resumed, whole)
    for workdir in (whole, resumed):
        assert load_params(workdir / "checkpoints" / str(STEPS))[1]["convolutions"] == FORCED
    # These algorithms were used: without them weights are others, if only by rounding.
    pretrain(config(tune=False, steps=4), shards_folder, usual)
    arrays, expected = (arrays_of_checkpoint(workdir, 4) for workdir in (whole, usual))
    assert any(np.any(arrays[name] != expected[name]) for name in expected)


def test_a_run_of_before_and_one_on_other_devices_have_the_usual_algorithms(cache, caplog):
    tuned.write_table(conditions(), FORCED)
    settings, mesh = read_settings(config_of(tune=True)), hosts.data_mesh()
    for found, expected in (
        ({"mesh": {"device_kind": "cpu"}}, {}),
        ({"mesh": {"device_kind": "cpu"}, "convolutions": LATER}, LATER),
    ):
        assert run_algorithms(found, settings, 5000, mesh) == expected
    assert not caplog.records
    found = {"mesh": {"device_kind": "TPU v5 lite"}, "convolutions": LATER}
    with caplog.at_level("WARNING"):
        assert run_algorithms(found, settings, 5000, mesh) == {}
    assert "began with algorithms for TPU v5 lite, and goes on with the usual" in caplog.text


def test_on_cpu_nothing_is_measured_and_a_switch_leaves_the_table_alone(tiny, cache):
    mesh = hosts.data_mesh()
    assert run_algorithms(None, read_settings(config_of(tune=True)), 5000, mesh) == {}
    for changed in ({"views": 1}, {"samples": 100}, {"device": "another processor"}):
        tuned.write_table(conditions(**changed), LATER)
    assert run_algorithms(None, read_settings(config_of(tune=True)), 5000, mesh) == {}
    tuned.write_table(conditions(), FORCED)
    assert run_algorithms(None, read_settings(config_of(tune=True)), 5000, mesh) == FORCED
    assert run_algorithms(None, read_settings(config_of(tune=False)), 5000, mesh) == {}


@pytest.mark.slow
def test_an_accelerator_is_measured_once_and_only_what_its_table_lacks(tiny, cache, capsys):
    mesh = another_device()
    settings = read_settings(config_of(tune=True, batch_size=1))
    (first, *others) = FORCED
    tuned.write_table(conditions(**TEST_GPU), {first: FORCED[first]})
    found = run_algorithms(None, settings, 100, mesh)
    assert found.keys() == FORCED.keys() and found[first] == FORCED[first]
    told = capsys.readouterr().err
    assert first not in told and all(f"done: {layer} " in told for layer in others)
    assert tuned.find_table(conditions(**TEST_GPU)) == found
    assert run_algorithms(None, settings, 100, mesh) == found
    assert capsys.readouterr().err == ""


def test_what_was_measured_serves_a_run_that_can_keep_nothing(tiny, tmp_path, monkeypatch, caplog):
    """Of one layer; then the device's memory is exhausted, as a real one's may be."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    measure = convolutions.tune

    def exhausted(missing, **values):
        (last,) = {c.layer: c for c in missing if str(c.layer) == list(FORCED)[-1]}.values()
        yield from measure([last], **values | {"rounds": 1})
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    monkeypatch.setattr(convolutions, "tune", exhausted)
    settings = read_settings(config_of(tune=True, batch_size=1))
    with caplog.at_level("WARNING"):
        found = run_algorithms(None, settings, 100, another_device())
    assert list(found) == [list(FORCED)[-1]]
    for said in ("cannot be read", "ended early", "RESOURCE_EXHAUSTED", "serves this run alone"):
        assert said in caplog.text


@pytest.mark.slow
def test_processes_agree_on_what_the_first_of_them_knows(tiny, shards_folder, tmp_path):
    caches = [tmp_path / "first", tmp_path / "second"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(caches[0]))
        tuned.write_table(conditions(), FORCED)
    workdir = tmp_path / "run"
    environments = [{"XDG_CACHE_HOME": str(cache)} for cache in caches]
    finish(*start_two_processes(shards_folder, workdir, environments, steps=4, tune=True))
    assert load_params(workdir / "checkpoints" / "4")[1]["convolutions"] == FORCED
    assert not (caches[1] / "clef_jax").exists()
