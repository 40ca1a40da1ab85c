"""Freed memory stays with the process: a child counts the pages it faults in."""

import ctypes
import json
import subprocess
import sys

import pytest

from clef_jax.hardware import allocator

COUNT_FAULTS = """
import json, resource, sys
import numpy as np
from clef_jax.hardware import allocator

if sys.argv[1] == "keep":
    assert allocator.keep_freed_memory()

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(1 << 25, np.float32)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(json.dumps([faults() for _ in range(3)]))
"""


def count(what):
    command = [sys.executable, "-c", COUNT_FAULTS, what]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
def test_memory_used_again_is_not_faulted_in_again():
    assert min(count("leave")) > 100
    assert max(count("keep")) < 100


@pytest.mark.parametrize(
    ("environment", "plugin", "expected"),
    [
        ({}, None, True),
        ({}, "jax_plugins/some_gpu/__init__.py", False),
        ({}, "libtpu/__init__.py", False),
        ({}, "some_gpu-1.dist-info/entry_points.txt", False),
        ({"JAX_PLATFORMS": "cpu"}, "libtpu/__init__.py", True),
        ({"JAX_PLATFORMS": "cuda,cpu"}, None, False),
        ({"JAX_PLATFORM_NAME": "gpu"}, None, False),
    ],
)
def test_where_steps_run_is_told_from_environment_and_plugins(
    environment, plugin, expected, tmp_path, monkeypatch
):
    for name in ("JAX_PLATFORMS", "JAX_PLATFORM_NAME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if plugin:
        (tmp_path / plugin).parent.mkdir(parents=True)
        content = "[jax_plugins]\nsome_gpu = some_gpu\n" if plugin.endswith(".txt") else ""
        (tmp_path / plugin).write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    assert allocator.steps_run_on_cpu() is expected


def test_other_systems_keep_their_allocator(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    assert allocator.keep_freed_memory() is False
