"""A run's checkpoints in an object store, where a step counts once it is committed."""

import contextlib
import logging

import jax.numpy as jnp
import numpy as np
import pytest

from clef_jax.checkpoints.encoder import load_params
from clef_jax.checkpoints.run import Checkpoints
from clef_jax.checkpoints.upgrades import FORMAT_VERSION
from tests.fake_store import URL

# Hundreds of requests a step, to a server in Python.
pytestmark = pytest.mark.slow


def items_of(step):
    return {
        "encoder": {"kernel": jnp.arange(3000.0) + step, "bias": jnp.full(3, step, jnp.float32)},
        "rest": {"step": jnp.int32(step)},
    }


@pytest.fixture(scope="module")
def saved(store):
    """What a run of three saves left, which keeps one besides the best, step 1."""
    with contextlib.closing(Checkpoints(f"{URL}/saved", keep=1)) as checkpoints:
        for step in (1, 2, 3):
            progress = {"progress": {"best_step": 1}, "format_version": FORMAT_VERSION}
            checkpoints.save(step, items_of(step), progress)
            checkpoints.wait()
    objects = store.content.items()
    return {name.removeprefix("saved/"): it for name, it in objects if name.startswith("saved/")}


@pytest.fixture
def workdir(store, saved):
    """Such a run's."""
    for name in [name for name in store.content if name.startswith("run/")]:
        store.remove(name)
    for name, content in saved.items():
        store.put(f"run/{name}", content)
    return f"{URL}/run"


def steps_of(store):
    return {name.split("/")[2] for name in store.content if name.startswith("run/checkpoints/")}


def test_the_last_and_the_best_are_kept_and_restored(workdir, store):
    assert steps_of(store) == {"1", "3"}
    with contextlib.closing(Checkpoints(workdir, keep=1)) as checkpoints:
        assert checkpoints.latest_step() == 3
        found = checkpoints.restore(items_of(0))
    np.testing.assert_array_equal(found["encoder"]["kernel"], np.arange(3000.0) + 3)
    params, meta = load_params(workdir)
    np.testing.assert_array_equal(params["bias"], [1, 1, 1])
    assert meta["progress"]["best_step"] == 1


def test_every_array_has_a_checksum(workdir, store):
    sums = store.content["run/checkpoints/3/SHA256SUMS"].decode()
    named = {line.split("  ")[1] for line in sums.splitlines()}
    start = "run/checkpoints/3/"
    present = {name.removeprefix(start) for name in store.content if name.startswith(start)}
    assert named == {name for name in present if "/" in name}
    assert any(name.startswith("encoder/d/") for name in named)


def test_a_step_whose_save_was_killed_is_cleared(workdir, store):
    for name in ("commit_success.txt", "SHA256SUMS", "encoder/_METADATA"):
        store.remove(f"run/checkpoints/3/{name}")
    with contextlib.closing(Checkpoints(workdir, keep=1)) as checkpoints:
        assert checkpoints.latest_step() == 1
    assert steps_of(store) == {"1"}


def test_a_damaged_step_is_set_aside(workdir, store, caplog):
    start = "run/checkpoints/3/encoder/d/"
    name = next(name for name in store.content if name.startswith(start))
    content = bytearray(store.content[name])
    content[len(content) // 2] ^= 4
    store.put(name, bytes(content))
    with (
        caplog.at_level(logging.WARNING),
        contextlib.closing(Checkpoints(workdir, keep=1)) as checkpoints,
    ):
        assert checkpoints.latest_step() == 1
    assert steps_of(store) == {"1", "3.damaged"}
    assert "the run goes on without it" in caplog.text
