"""The examples in docstrings: every public name has one, and it is true."""

import doctest
import importlib
import inspect
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import clef_jax
from clef_jax.convert import convert_to_folder, write_torch_checkpoint
from clef_jax.models import get_config
from tests.embed_runs import write_wfdb

ROOMS = (
    "clef_jax",
    "clef_jax.convert",
    "clef_jax.data.recordings",
    "clef_jax.data.signals",
    "clef_jax.inference",
    "clef_jax.losses",
    "clef_jax.methods",
    "clef_jax.models",
    "clef_jax.risk",
)


def examples_of(module):
    tests = doctest.DocTestFinder().find(importlib.import_module(module))
    return [test for test in tests if test.examples]


MODULES = [
    module.name
    for module in pkgutil.walk_packages(clef_jax.__path__, "clef_jax.")
    if examples_of(module.name)
]


# They compile encoders, or compute a loss operation by operation.
SLOW = (
    "clef_jax.inference.embeddings",
    "clef_jax.inference.encoder",
    "clef_jax.losses.clef",
    "clef_jax.models.registry",
    "clef_jax.models.resnext1d",
)


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


@pytest.mark.parametrize(
    "module",
    [
        pytest.param(module, marks=pytest.mark.slow) if module in SLOW else module
        for module in MODULES
    ],
)
def test_examples_are_true(module, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    runner = doctest.DocTestRunner()
    for test in examples_of(module):
        runner.run(test)
    result = runner.summarize(verbose=False)
    assert result.attempted and not result.failed, capsys.readouterr().out


def lacks_example(public):
    """Whether it is a function or class without one; a class may have it in one of its methods."""
    if inspect.isclass(public) and not issubclass(public, Exception):
        parts = [public, *vars(public).values()]
    else:
        parts = [public] if inspect.isfunction(public) else []
    return bool(parts) and not any(">>> " in (part.__doc__ or "") for part in parts)


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_function_and_class_has_an_example(room):
    module = importlib.import_module(room)
    assert [name for name in module.__all__ if lacks_example(getattr(module, name))] == []
