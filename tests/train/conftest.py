"""Whole runs of a tiny encoder."""

import pytest

from clef_jax.models import registry
from clef_jax.train.pretrain import pretrain
from tests.train.runs import TINY, config_of


@pytest.fixture(scope="module")
def tiny():
    """A tiny encoder in the place of clef_small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._CONFIGS, "clef_small", TINY)
        yield TINY


@pytest.fixture(scope="module")
def finished(tiny, shards_folder, tmp_path_factory):
    """The workdir of a run that nothing interrupted."""
    workdir = tmp_path_factory.mktemp("runs") / "uninterrupted"
    assert pretrain(config_of(), shards_folder, workdir)["status"] == "finished"
    return workdir
