"""Every hostile recording costs a named error, little time and little memory."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from tests.faults.hostile_recordings import MAKERS

pytestmark = pytest.mark.slow
ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("make", MAKERS)
def test_a_named_error_within_a_second_and_500_mb(make, tmp_path):
    cases = list(make(tmp_path))
    lines = [json.dumps({"path": str(path), "fs": 500.0}) for path, _ in cases]
    command = [sys.executable, "-m", "tests.faults.read_within"]
    result = subprocess.run(
        command,
        input="\n".join(lines),
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(found) == len(cases) >= 10
    for (path, said), one in zip(cases, found, strict=True):
        embedded, written = one["endings"]
        assert embedded.startswith("named: ") and written.startswith("named: "), (path, one)
        assert said in embedded and path.parent.name in embedded, (path, said, embedded)
        assert len(embedded) < 2000 and "\n" not in embedded, embedded
        # Of the processor, as the machine may be busy; what waits for ever is killed.
        assert one["seconds"] < 1 and one["megabytes"] < 500, (path, one)
