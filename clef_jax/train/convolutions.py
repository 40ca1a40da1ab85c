"""The algorithms of a run's convolutions: those that it began with, or those that suit its devices.

Other algorithms round otherwise, so a run keeps to its own to its end, whatever is measured later.
"""

import json
import sys
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from clef_jax import models
from clef_jax.hardware.caches import device_name
from clef_jax.ops.grouped_conv import tuned
from clef_jax.ops.grouped_conv.layers import Convolution
from clef_jax.ops.grouped_conv.tuning import tune
from clef_jax.train.settings import RunSettings

# The most that a run spends on measuring before its first step.
_BUDGET_S = 120


def run_algorithms(
    found: Mapping[str, Any] | None, settings: RunSettings, samples: int, mesh: Mesh
) -> dict[str, list[str]]:
    """Returns the algorithms of layers by their names, as `choice.using` takes them.

    To be called by every process of the run; process 0 decides for all. A layer that is not named
    has its usual algorithms.

    Args:
        found: The record of the state to go on from, None for a new run.
        settings: The run's.
        samples: Samples of a view.
        mesh: The run's.
    """
    if found is not None:
        return _algorithms_of(found, mesh)
    if not settings.encoder.tune:
        return {}
    return _of_process_0(_suitable(settings, samples, mesh) if jax.process_index() == 0 else None)


def _algorithms_of(found: Mapping[str, Any], mesh: Mesh) -> dict[str, list[str]]:
    algorithms = found.get("convolutions", {})
    kind = mesh.devices.flat[0].device_kind
    if algorithms and found["mesh"]["device_kind"] != kind:
        logging.warning(
            "the run began with algorithms for %s, and goes on with the usual ones for %s",
            found["mesh"]["device_kind"],
            kind,
        )
        return {}
    return algorithms


def _suitable(settings: RunSettings, samples: int, mesh: Mesh) -> dict[str, list[str]]:
    """Returns what the user's table has for these devices, after measuring what it lacks.

    Nothing is measured on CPU, for which this package has a table. Whatever fails is warned of, as
    the usual algorithms serve too, and other processes wait for process 0's.
    """
    device, dtype = mesh.devices.flat[0], settings.encoder.dtype
    views = max(1, 2 * settings.data.batch_size // mesh.size)
    conditions = tuned.Conditions(device_name(device), dtype, views, samples)
    convolutions = list(models.get_config(settings.encoder.model).convolutions(samples))
    table = tuned.find_table(conditions)
    missing = [c for c in convolutions if str(c.layer) not in table]
    if missing and device.platform != "cpu":
        table |= _measured(missing, conditions)
    names = {str(convolution.layer) for convolution in convolutions}
    return {layer: algorithms for layer, algorithms in table.items() if layer in names}


def _measured(missing: list[Convolution], conditions: tuned.Conditions) -> dict[str, list[str]]:
    """Measures layers, adds what there was time for to the user's table, and returns it."""
    measured: dict[str, list[str]] = {}
    try:
        for finding in tune(
            missing, views=conditions.views, dtype=conditions.dtype, budget_s=_BUDGET_S
        ):
            measured[str(finding.layer)] = [str(algorithm) for algorithm in finding.best]
            print(f"tuning, {finding.share:4.0%} done: {finding}", file=sys.stderr, flush=True)
    except (MemoryError, RuntimeError) as error:
        logging.warning("tuning ended early, other layers have their usual algorithms: %s", error)
    if measured:
        try:
            tuned.write_table(conditions, measured)
        except OSError as error:
            logging.warning("what was measured serves this run alone, as it is not kept: %s", error)
    return measured


def _of_process_0(value: Any) -> Any:
    """Returns process 0's value, of JSON's types, on every process."""
    if jax.process_count() == 1:
        return value
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    length = int(multihost_utils.broadcast_one_to_all(np.array(len(text), np.int32)))
    if jax.process_index() != 0:
        text = np.zeros(length, np.uint8)
    return json.loads(multihost_utils.broadcast_one_to_all(text).tobytes())
