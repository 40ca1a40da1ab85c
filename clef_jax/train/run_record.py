"""What a run is: the record that goes with its states, and whether it is still the same run."""

import importlib.metadata
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import Mesh

import clef_jax
from clef_jax import models, stores
from clef_jax.checkpoints.encoder import load_params
from clef_jax.checkpoints.items import params_sha256
from clef_jax.checkpoints.patients import PATIENTS, patient_hashes, with_patients
from clef_jax.checkpoints.upgrades import FORMAT_VERSION
from clef_jax.files import write_json
from clef_jax.train.data import RunData
from clef_jax.train.run_state import CONFIG, RECORD, SUMMARY
from clef_jax.train.settings import RunSettings, setting_differences, without_paths

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def run_record(
    settings: RunSettings, data: RunData, validation: Mapping[str, Any] | None, mesh: Mesh
) -> dict[str, Any]:
    """Returns the record that goes with every state of a run, as JSON gives it back.

    Args:
        settings: The run's.
        data: The run's.
        validation: `Validation.record`, if it validates.
        mesh: The run's.
    """
    record = {
        "kind": "pretraining",
        "format_version": FORMAT_VERSION,
        "model": models.config_to_dict(models.get_config(settings.encoder.model)),
        "config": settings.record,
        "preprocessing": data.shards.manifest["preprocessing"],
        "shards": data.shards.fingerprint,
        "annotations": data.annotations.fingerprints(data.columns),
        "noise": data.bank.fingerprint(),
        "validation": validation,
        "versions": {
            "clef_jax": clef_jax.__version__,
            **{name: importlib.metadata.version(name) for name in _PACKAGES},
        },
        "mesh": {
            "devices": mesh.size,
            "device_kind": mesh.devices.flat[0].device_kind,
            "processes": jax.process_count(),
            "axes": dict(mesh.shape),
        },
        "steps": data.total_steps,
        "steps_per_epoch": data.batch_rows.steps_per_epoch,
    }
    seen = patient_hashes(set(data.shards.patient))
    return json.loads(json.dumps(with_patients(record, seen)))


def announce_run(record: Mapping[str, Any], folder: pathlib.Path) -> None:
    """Writes what a run is to its folder, from which the report of an earlier start goes.

    Args:
        record: `run_record`, as it goes with the run's states.
        folder: The run's.
    """
    write_json(folder / CONFIG, record["config"])
    write_json(folder / RECORD, {key: record[key] for key in record if key != PATIENTS})
    with stores.reaching(folder):
        (folder / SUMMARY).unlink(missing_ok=True)


def common_facts(record: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what all processes of a run must have found alike, for `agreement`.

    Files may lie elsewhere on each host, as what they hold is compared; patients are the shards'.

    Args:
        record: `run_record` of this process.
    """
    devices = jax.local_devices()
    left_out = ("mesh", "model", PATIENTS)
    return {
        **{key: value for key, value in record.items() if key not in left_out},
        "config": without_paths(record["config"]),
        "devices of a process": f"{len(devices)} {devices[0].device_kind}",
    }


def run_differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Compares the record of a checkpoint with the one that the run would write now.

    Args:
        found: The checkpoint's, of this or an earlier release.
        wanted: This release's, with the settings of now.

    Returns:
        A phrase for each difference that would alter what the next steps compute.

    Raises:
        CheckpointError: `config.init` has moved, and there is no checkpoint where it is now.
    """
    differing = setting_differences(found["config"], wanted["config"])
    if _starts_elsewhere(found.get("init"), wanted["config"]["init"]):
        differing.append("config.init holds other initial weights")
    sources = {"shards": "shard set", "noise": "noise bank", "preprocessing": "preprocessing"}
    differing += [f"another {name}" for key, name in sources.items() if found[key] != wanted[key]]
    for name, fingerprint in wanted["annotations"].items():
        if found["annotations"].get(name) != fingerprint:
            differing.append(f"another {'split' if name == 'split' else f'annotation of {name}'}")
    return differing


def _starts_elsewhere(init: Mapping[str, Any] | None, path: str) -> bool:
    """Compares the record of a run's initial weights, if it had any, with those in a folder."""
    if init is None or not path:
        return init is not None or bool(path)
    if path == init["path"]:
        return False
    params, meta = load_params(path)
    if "sha256" in init:
        return params_sha256(params) != init["sha256"]
    return meta.get("provenance") != init["provenance"]  # Release 0.1.0 noted no more.
