"""The examples in docstrings: every public name has one, and it is true."""

import doctest
import importlib
import inspect
import operator
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import clef_jax
from clef_jax.convert import convert_to_folder, write_torch_checkpoint
from clef_jax.models import get_config
from tests.embed_runs import write_wfdb

PUBLIC = {
    "clef_jax": ["list_models", "create_model", "load_encoder"],
    "clef_jax.convert": [
        "convert_to_folder",
        "export_to_torch",
        "from_state_dict",
        "read_torch_checkpoint",
        "to_state_dict",
        "write_torch_checkpoint",
    ],
    "clef_jax.data.recordings": ["open_recording", "read_recording"],
    "clef_jax.data.signals": ["bandpass", "fill_gaps", "resample", "zscore"],
    "clef_jax.inference": ["Encoder.apply", "Encoder.embed"],
    "clef_jax.losses": ["clef_loss", "simclr_loss"],
    "clef_jax.risk": ["score2", "score2_diabetes", "score2_op"],
}


def examples_of(module):
    tests = doctest.DocTestFinder().find(importlib.import_module(module))
    return [test for test in tests if test.examples]


MODULES = [
    module.name
    for module in pkgutil.walk_packages(clef_jax.__path__, "clef_jax.")
    if examples_of(module.name)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of what examples read: weights as the original has them and converted, an ECG."""
    folder = tmp_path_factory.mktemp("examples")
    write_wfdb(folder, "ecg", seconds=25)
    config = get_config("clef_small")
    model = clef_jax.create_model(config.name)
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: rng.normal(0, 0.05, leaf.shape).astype(np.float32),
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 1)))["params"],
    )
    write_torch_checkpoint(folder / "clef_small.ckpt", config, params)
    convert_to_folder(folder / "clef_small.ckpt", folder / "weights" / "clef_small")
    return folder


@pytest.mark.parametrize("module", MODULES)
def test_examples_are_true(module, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    runner = doctest.DocTestRunner()
    for test in examples_of(module):
        runner.run(test)
    result = runner.summarize(verbose=False)
    assert result.attempted and not result.failed, capsys.readouterr().out


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module, names in PUBLIC.items() for name in names]
)
def test_every_public_name_has_an_example(module, name):
    found = operator.attrgetter(name)(importlib.import_module(module))
    assert ">>> " in inspect.getdoc(found)
