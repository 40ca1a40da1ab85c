"""The state that a run starts from: its own newest, an encoder's weights, or random ones."""

import pathlib
from typing import Any, NamedTuple

import jax
from absl import logging
from jax.sharding import Mesh

from clef_jax import hosts, models
from clef_jax.checkpoints.encoder import load_params
from clef_jax.checkpoints.items import params_sha256
from clef_jax.checkpoints.patients import joined, patients_in, with_patients
from clef_jax.data.shards.store import ShardSet
from clef_jax.data.signals.spec import spec_differences
from clef_jax.inference.loading import preprocessing_of
from clef_jax.train.data import RunData
from clef_jax.train.learner import Learner
from clef_jax.train.run_record import run_differences
from clef_jax.train.saved_states import SavedStates
from clef_jax.train.settings import ConfigError
from clef_jax.train.state import TrainState
from clef_jax.train.stopping import Progress


class Start(NamedTuple):
    """What a run goes on from.

    Attributes:
        state: On the devices.
        record: Goes with every state of the run.
        progress: That of the state.
        unvalidated: The row of a state that was saved before its evaluations, else None.
    """

    state: TrainState
    record: dict[str, Any]
    progress: Progress
    unvalidated: dict[str, float] | None


def find_start(
    saved: SavedStates,
    record: dict[str, Any],
    data: RunData,
    learner: Learner,
    mesh: Mesh,
    folder: pathlib.Path,
) -> Start:
    """Returns the newest state that is saved, else one with the weights of an encoder, else a new.

    Args:
        saved: The run's states.
        record: `run_record` of now.
        data: The run's.
        learner: What learns.
        mesh: The run's mesh.
        folder: The run's, for messages.

    Raises:
        ConfigError: The folder holds a run that cannot go on with these settings and data, or the
            encoder to start from is of another kind.
        CheckpointError: A checkpoint is missing or does not fit.
    """
    found = saved.meta()
    if found is None:
        encoder = None
        if path := record["config"]["init"]:
            params, record = _weights_of(path, record, data.shards)
            encoder = hosts.replicate(params, mesh)
        state = jax.jit(learner.initial, out_shardings=learner.shardings)(encoder)
        return Start(state, record, Progress(), None)
    # Before annotations stood apart, a run had those of its shards.
    if "annotations" not in found:
        found = {**found, "annotations": data.shards.annotations.fingerprints(data.columns)}
    if differing := run_differences(found, record):
        raise ConfigError(
            f"{folder}: holds a run that cannot go on like this: {'; '.join(differing)}. Set them "
            "as they were, or choose another workdir"
        )
    if "init" in found:
        record = with_patients({**record, "init": found["init"]}, patients_in(found))
    like = hosts.shapes_at(jax.eval_shape(learner.initial, None), learner.shardings)
    state = saved.restore(like)
    return Start(state, record, _comparable_progress(found, record), found.get("row"))


def _comparable_progress(found: dict[str, Any], record: dict[str, Any]) -> Progress:
    """Returns the progress of a run, as far as losses to come compare with it."""
    progress = Progress(**found["progress"])
    if progress == Progress() or record["validation"] in (None, found.get("validation")):
        return progress
    logging.warning(
        "validation losses so far are of other batches than those to come, and do not compare with "
        "them: the best one (%s at step %s) no longer counts",
        progress.best_loss,
        progress.best_step,
    )
    return Progress()


def _weights_of(path: str, record: dict[str, Any], shards: ShardSet) -> tuple[Any, dict[str, Any]]:
    """Returns the weights of an encoder checkpoint, and the run's record with what is of them.

    Whom they were trained on before, the run's encoder was, too.
    """
    params, found = load_params(path)
    wanted = record["model"]
    try:
        same = models.config_from_dict(found["model"]) == models.config_from_dict(wanted)
    except ValueError as error:
        raise ConfigError(f"{path}: holds no encoder of this release: {error}") from None
    if not same:
        raise ConfigError(
            f"{path}: holds {found['model']['name']}, but config.model is {wanted['name']}"
        )
    if differing := spec_differences(preprocessing_of(found, path), shards.spec):
        raise ConfigError(
            f"{path}: its weights expect other preprocessing than {shards.folder} has: "
            f"{differing}; write the shards with the encoder's spec, or start without config.init"
        )
    provenance = found.get("provenance")
    init = {"path": path, "provenance": provenance, "sha256": params_sha256(params)}
    seen = joined(patients_in(found), patients_in(record))
    return params, with_patients({**record, "init": init}, seen)
