"""Freed memory stays with the process: a child counts the pages it faults in."""

import ctypes
import json
import subprocess
import sys

import pytest

COUNT_FAULTS = """
import json, resource, sys
import numpy as np
from clef_jax import host_memory

if sys.argv[1] == "keep":
    assert host_memory.keep_freed_memory()

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
