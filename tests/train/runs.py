"""What the tests of whole runs share: a tiny encoder, settings, processes, comparisons."""

import dataclasses
import os
import pathlib
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from clef_jax.checkpoints.items import stored_shapes
from clef_jax.models import get_config
from clef_jax.train.metrics import read_metrics
from configs import demo

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Takes the place of clef_small.
TINY = dataclasses.replace(
    get_config("clef_small"), stem_width=4, stage_widths=(4, 8), stage_blocks=(1, 1), group_width=2
)
STEPS = 12
SETTINGS = {
    "steps": STEPS,
    "batch_size": 8,
    "log_steps": 2,
    "checkpoint_steps": 4,
    "schedule": "warm_restarts",
    "ema_decay": 0.9,
    "evaluators.validation": 6,
    "evaluators.probe": 6,
}


def config_of(**values):
    """A short run; of nested keys the dot is written as two underscores."""
    config = demo.get_config()
    changed = {key.replace("__", "."): value for key, value in values.items()}
    config.update_from_flattened_dict(SETTINGS | changed)
    return config


def start(shards, workdir, *options, devices=4, environment=None, **values):
    """Starts tools/pretrain.py in a process of its own, with the tiny encoder."""
    changed = {key.replace("__", "."): value for key, value in values.items()}
    command = [
        sys.executable,
        str(ROOT / "tests" / "train" / "pretrain_tiny.py"),
        f"--config={ROOT / 'configs' / 'demo.py'}",
        f"--shards={shards}",
        f"--workdir={workdir}",
        *(f"--config.{key}={value}" for key, value in (SETTINGS | changed).items()),
        *options,
    ]
    return subprocess.Popen(
        command,
        env=os.environ
        | {"JAX_NUM_CPU_DEVICES": str(devices), "PYTHONPATH": str(ROOT)}
        | (environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def start_two_processes(shards, workdir, environments=({}, {}), changes=({}, {}), **values):
    """Starts a run of two processes, each of which may have other folders and settings."""
    port = free_port()
    processes = []
    for number, (environment, change) in enumerate(zip(environments, changes, strict=True)):
        place = {"coordinator": f"127.0.0.1:{port}", "processes": 2, "process": number}
        flags = [f"--{name}={value}" for name, value in place.items()]
        own = {"shards": shards, "workdir": workdir, **values, **change}
        folders = own.pop("shards"), own.pop("workdir")
        processes.append(start(*folders, *flags, devices=2, environment=environment, **own))
    return processes


def wait_for(condition, process, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"the run ended or hung too early:\n{process.communicate()[0][-3000:]}")
        time.sleep(0.01)


def finish(*processes):
    outputs = [process.communicate()[0] for process in processes]
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output[-3000:]


def rows_without_rates(workdir):
    rows = read_metrics(workdir / "metrics.jsonl")
    return [{k: v for k, v in row.items() if not k.startswith("perf/")} for row in rows]


def rates_until(workdir, step):
    """What the clock measured up to a step: never the same if the steps ran again."""
    rows = read_metrics(workdir / "metrics.jsonl")
    rates = [row["perf/records_per_s"] for row in rows if row["step"] <= step]
    assert rates
    return rates


def arrays_of_checkpoint(workdir, step):
    """Every array of a checkpoint by item and path, wherever its devices were."""
    found = {}
    for item in (workdir / "checkpoints" / str(step)).glob("*/_METADATA"):
        shapes = stored_shapes(item.parent)
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
        tree = ocp.PyTreeCheckpointer().restore(item.parent, restore_args=as_numpy)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            found[item.parent.name + jax.tree_util.keystr(path)] = leaf
    assert found
    return found


def assert_same_result(workdir, other, step=STEPS):
    arrays, expected = (arrays_of_checkpoint(w, step) for w in (workdir, other))
    assert arrays.keys() == expected.keys()
    for name in arrays:
        np.testing.assert_array_equal(arrays[name], expected[name], err_msg=name)
    assert rows_without_rates(workdir) == rows_without_rates(other)
