"""What devices are called."""

import pathlib
import types

import jax
import pytest

from clef_jax.hardware import caches

CPUINFO = pathlib.Path("/proc/cpuinfo")


def test_an_accelerator_is_called_by_its_kind():
    device = types.SimpleNamespace(platform="gpu", device_kind="NVIDIA H100 80GB HBM3")
    assert caches.device_name(device) == "NVIDIA H100 80GB HBM3"


@pytest.mark.skipif(not CPUINFO.exists(), reason="only Linux has /proc/cpuinfo")
def test_a_cpu_is_called_by_its_processor():
    name = caches.device_name(jax.devices("cpu")[0])
    assert name not in ("", "cpu")
    text = CPUINFO.read_text()
    assert "model name" not in text or f": {name}\n" in text
