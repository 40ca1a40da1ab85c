import pytest

from tests.convert.checkpoints import torch_model, write_lightning


@pytest.fixture(scope="package")
def small():
    return torch_model("clef_small")


@pytest.fixture(scope="package")
def small_file(small, tmp_path_factory):
    return write_lightning(tmp_path_factory.mktemp("torch") / "small.ckpt", small)
