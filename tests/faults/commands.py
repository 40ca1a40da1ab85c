"""Runs commands one after the other, each in a process of its own that has imported what it needs.

    python -m tests.faults.commands

Each line of the standard input is JSON: `argv` (a command of `clef-jax` or a tool, and its
arguments), `output`, a file for what it prints, `cache`, the
user's folder of caches, and `pause`: null, or a file before which it gives
up no lock. A line printed for each is its exit code; of one that pauses it comes when asked for, by
the `argv` null. The encoder clef_small is a tiny one here, and the tuner has two layers to measure.
"""

import dataclasses
import json
import os
import pathlib
import runpy
import sys
import time
import warnings

import array_record.python.array_record_module  # noqa: F401
import matplotlib.pyplot  # noqa: F401
import orbax.checkpoint  # noqa: F401
import pandas  # noqa: F401
import sklearn.linear_model  # noqa: F401
import torch  # noqa: F401

import clef_jax.convert  # noqa: F401
import clef_jax.evaluate.asking.run  # noqa: F401
import clef_jax.evaluate.finetune  # noqa: F401
import clef_jax.train.pretrain  # noqa: F401
from clef_jax.cli import main as cli
from clef_jax.models import registry
from tests.train.runs import TINY

TOOLS = pathlib.Path(__file__).resolve().parents[2] / "tools"


def run(argv):
    """Runs a command as the interpreter does, which exits with the code returned or raised."""
    name, *arguments = argv
    tool = TOOLS / f"{name}.py"
    if name in ("pretrain", "report_learned"):
        registry._CONFIGS["clef_small"] = TINY
    if name == "tune":
        least = dataclasses.replace(TINY, stage_widths=(4,), stage_blocks=(1,))
        registry._CONFIGS["clef_small"] = least
    if tool.exists():
        sys.argv = [str(tool), *arguments]
        runpy.run_path(str(tool), run_name="__main__")
        return 0
    sys.argv = ["clef-jax", *argv]
    return cli.main(argv)


def serve():
    """Returns None in this process at the end, and in each of its children the argv to run."""
    paused = None
    for line in sys.stdin:
        task = json.loads(line)
        if task["argv"] is None:
            print(_code_of(paused), flush=True)
            continue
        with warnings.catch_warnings(action="ignore"):  # JAX warns of forks; it has not begun.
            child = os.fork()
        if not child:
            output = os.open(task["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            for stream in (1, 2):
                os.dup2(output, stream)
            os.environ["XDG_CACHE_HOME"] = task["cache"]
            if task["pause"]:
                hold_locks(task["pause"])
            return task["argv"]
        if task["pause"]:
            paused = child
        else:
            print(_code_of(child), flush=True)
    return None


def _code_of(child):
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def hold_locks(until):
    """Has this process wait before it gives up a lock until there is a file."""

    def audit(event, arguments):
        if event == "os.remove" and str(arguments[0]).endswith(".holder"):
            while not os.path.exists(until):
                time.sleep(0.01)

    sys.addaudithook(audit)


if __name__ == "__main__":
    chosen = serve()
    if chosen is not None:
        sys.exit(run(chosen))
