"""A pretraining run, from configuration to summary."""

import dataclasses
import functools
import importlib.metadata
import json
import math
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from ml_collections import ConfigDict

import clef_jax
from clef_jax import hosts, models
from clef_jax.checkpoints.encoder import load_params
from clef_jax.checkpoints.items import params_sha256
from clef_jax.checkpoints.meta import FORMAT_VERSION
from clef_jax.checkpoints.run import Checkpoints
from clef_jax.data.annotations.annotations import Annotations
from clef_jax.data.shards.store import ShardSet
from clef_jax.data.signals.spec import spec_differences
from clef_jax.hardware import peaks
from clef_jax.inference.loading import preprocessing_of
from clef_jax.models import costs
from clef_jax.train import embed, metrics, plots
from clef_jax.train.feed import device_batches
from clef_jax.train.parts import NEEDED, ConfigError, Parts, check, make_parts
from clef_jax.train.recorder import NonFiniteLoss, Recorder
from clef_jax.train.same_run import run_differences
from clef_jax.train.state import TrainState, create_state
from clef_jax.train.stopping import StopSignal, note_validation
from clef_jax.train.workdir import Unvalidated, only_run

_LEAD_ON_MAP, _RECORDS_ON_MAP = "II", 4096


def pretrain(config: ConfigDict, shards_folder: str, workdir: str) -> dict[str, Any]:
    """Runs a pretraining to its end, or to a SIGTERM, continuing from the workdir's checkpoint.

    Args:
        config: As in `configs/`.
        shards_folder: A shard set of `tools/write_shards.py`.
        workdir: Folder of this run: config.json, metrics.jsonl, checkpoints/, plots/, summary.json.

    Returns:
        The summary: `status` ("finished", "stopped early" or "interrupted"), steps, losses, rates.

    Raises:
        ConfigError: A value of the configuration is impossible, by itself or with these devices, or
            the workdir holds a run of another configuration, of other shards or annotations.
        WorkdirInUse: Another process runs in this workdir.
        PlanError: The shards hold too few patients for a batch.
        ShardError: The shards cannot be read.
        TableError: A table of annotations cannot be read, or does not fit the shards.
        AnnotationError: A column is needed that there is not.
        NoiseBankError: The noise recordings cannot be read.
        CheckpointError: A checkpoint is missing or does not fit.
        NonFiniteLoss: Training has diverged.
    """
    check(config)
    if "://" in str(workdir):
        raise ConfigError(f"workdir {workdir} is a URL; use a folder that every host has mounted")
    folder = pathlib.Path(workdir).absolute()
    with StopSignal() as stop:
        parts = make_parts(config, shards_folder)
        with only_run(folder):
            outcome = _train(config, parts, folder, stop)
            return _report(config, parts, folder, outcome)


@dataclasses.dataclass(frozen=True)
class _Outcome:
    """How a run ended."""

    status: str
    state: TrainState
    progress: dict[str, Any]


def _train(config: ConfigDict, parts: Parts, folder: pathlib.Path, stop: StopSignal) -> _Outcome:
    """Takes the steps that are left, from the newest state on."""
    validation, total_steps = parts.validation, parts.total_steps
    checkpoints = Checkpoints(folder, keep=config.keep_checkpoints)
    unvalidated = Unvalidated(folder)
    state, meta, waiting = _newest_state(config, parts, folder, checkpoints, unvalidated)
    first = step = int(state.step)

    log = None
    if jax.process_index() == 0:
        metrics.write_json(folder / "config.json", config.to_dict())
        # A row that waits for its validation loss is written anew, with it.
        kept = step if waiting is None else step - 1
        log = metrics.MetricsLog(folder, step=kept, tensorboard=config.tensorboard)
    recorder = Recorder(
        log, folder, lambda number: parts.shards.record[parts.plans[number - 1].record].tolist()
    )
    clock = metrics.Clock(config.batch_size, _peak_records_per_s(config, parts))
    bar = metrics.progress_bar(total_steps, step, enabled=log is not None)
    batches = device_batches(
        parts.shards,
        parts.plans,
        parts.mesh,
        columns={name: parts.annotations.columns[name] for name in NEEDED},
        first_step=step,
        num_threads=config.num_threads,
        num_workers=config.num_workers,
    )

    def validate(row: dict[str, float]) -> float | None:
        """Adds the loss to a step's row and to the progress, unless a signal ends it before."""
        with clock.paused():
            loss = validation.loss(state.params if state.ema is None else state.ema, stop.is_set)
        if loss is not None:
            row["validation/loss"] = loss
            meta["progress"] = note_validation(meta["progress"], step, loss)
        return loss

    status = _status(config, meta["progress"])
    try:
        if waiting is not None:
            loss = validate(waiting)
            recorder.write(step, waiting)
            if loss is None:
                status = "interrupted"
            else:
                status = _status(config, meta["progress"])
                checkpoints.save(state, meta, _finite(loss))
                checkpoints.wait()
                unvalidated.remove()
        while step < total_steps and status == "finished":
            state, values = parts.train_step(state, clock.next_batch(batches), parts.noise)
            step += 1
            recorder.add(step, values)
            if step == first + 1:
                with clock.paused():
                    recorder.settle()  # Compilation ends here.

            evaluates = step % config.eval_steps == 0 or step == total_steps
            row, loss = {}, None
            if evaluates or step % config.log_steps == 0:
                row = recorder.settle() | {"train/learning_rate": float(parts.schedule(step - 1))}
                row |= clock.rates()
            if stop.requested(checkpoints, step):
                status = "interrupted"
            elif evaluates and validation is not None:
                loss = validate(row)
                status = "interrupted" if loss is None else _status(config, meta["progress"])
            if row:
                recorder.write(step, row)
                bar.set_postfix_str(recorder.line(), refresh=False)
            if evaluates and validation is not None and loss is None:
                unvalidated.save(state, meta, row)
            elif (
                status != "finished"
                or step == total_steps
                or step % config.checkpoint_steps == 0
                or meta["progress"]["best_step"] == step
            ):
                with clock.paused():
                    recorder.settle()  # Never save a diverged state.
                    checkpoints.save(state, meta, _finite(loss))
            bar.update()
    except NonFiniteLoss as error:
        checkpoints.wait()
        good = checkpoints.latest_step()
        where = "none was saved yet" if good is None else checkpoints.folder / str(good)
        raise NonFiniteLoss(f"{error}; last good checkpoint: {where}") from None
    finally:
        bar.close()
        batches.close()
        checkpoints.close()
        if log is not None:
            log.close()
    return _Outcome(status, state, meta["progress"])


def _newest_state(
    config: ConfigDict,
    parts: Parts,
    folder: pathlib.Path,
    checkpoints: Checkpoints,
    unvalidated: Unvalidated,
) -> tuple[TrainState, dict[str, Any], dict[str, float] | None]:
    """Returns this run's saved state, else an encoder to start from, else a new one.

    With it come its meta record and, if it was saved before it was validated, the row of
    `metrics.jsonl` that waits for the loss.
    """
    meta = _meta(config, parts)
    meta["validation"] = parts.validation and parts.validation.record
    initial = functools.partial(_initial_state, parts, config)
    newer = unvalidated.newer_than(checkpoints.latest_step())
    saved = checkpoints if newer is None else newer
    if newer is None:
        unvalidated.remove()
    if saved.latest_step() is None:
        state = jax.jit(initial, out_shardings=hosts.replicated(parts.mesh))()
        if config.init:
            state = _start_from(config.init, state, meta, parts)
        return state, meta, None
    # Before annotations stood apart, a run had those of its shards.
    own = {"annotations": parts.shards.annotations.fingerprints(NEEDED)}
    found = own | saved.meta()
    _require_same_run(folder, found, meta)
    if found.get("validation") != meta["validation"]:
        logging.warning(
            "validation losses up to step %d are of batches of another size than those to come, "
            "and do not compare with them",
            saved.latest_step(),
        )
    meta |= {key: found[key] for key in ("progress", "init") if key in found}
    state = saved.restore(jax.eval_shape(initial), parts.mesh)
    if newer is not None:
        newer.close()
    return state, meta, found.get("row")


def _report(
    config: ConfigDict, parts: Parts, folder: pathlib.Path, outcome: _Outcome
) -> dict[str, Any]:
    """Writes plots and summary, and returns the summary."""
    reports = jax.process_index() == 0
    rows = metrics.read_metrics(folder / metrics.METRICS) if reports else []
    rates = [row["perf/records_per_s"] for row in rows if "perf/records_per_s" in row]
    losses = [row["train/loss"] for row in rows if "train/loss" in row]
    step = int(outcome.state.step)
    summary = {
        "status": outcome.status,
        "step": step,
        "steps": parts.total_steps,
        "epochs": round(step / parts.plans.steps_per_epoch, 3),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(outcome.state.params)),
        "training_patients": parts.plans.patients,
        "validation_patients": parts.validation.record["patients"] if parts.validation else 0,
        "first_train_loss": losses[0] if losses else None,
        "last_train_loss": losses[-1] if losses else None,
        "best_validation_loss": outcome.progress["best_loss"],
        "best_step": outcome.progress["best_step"],
        "records_per_s": round(float(np.median(rates)), 1) if rates else None,
        "noise": parts.bank.source,
        "devices": f"{parts.mesh.size} x {jax.devices()[0].device_kind}",
    }
    if reports:
        plots.plot_losses(rows, folder / "plots" / "loss.png")
        if outcome.status != "interrupted":
            _plot_map(
                parts.model,
                outcome.state,
                parts.shards,
                parts.annotations,
                folder / "plots" / "embedding_map.png",
            )
        metrics.write_json(folder / "summary.json", summary)
    return summary


def _status(config: ConfigDict, progress: dict[str, Any]) -> str:
    """Returns how the run ends if it does so now, by its validation losses."""
    exhausted = 0 < config.patience <= progress["evaluations_since_best"]
    return "stopped early" if exhausted else "finished"


def _finite(loss: float | None) -> float | None:
    return loss if loss is not None and math.isfinite(loss) else None


def _initial_state(parts: Parts, config: ConfigDict) -> TrainState:
    x = jnp.zeros((1, parts.shards.spec.samples, 1))
    params = parts.model.init(jax.random.key(config.seed), x)["params"]
    return create_state(params, parts.optimizer, with_ema=config.ema_decay is not None)


def _start_from(path: str, state: TrainState, meta: dict[str, Any], parts: Parts) -> TrainState:
    """Returns the state with the weights of an encoder checkpoint, noted in `meta`."""
    params, found = load_params(path)
    try:
        same = models.config_from_dict(found["model"]) == models.config_from_dict(meta["model"])
    except ValueError as error:
        raise ConfigError(f"{path}: holds no encoder of this release: {error}") from None
    if not same:
        raise ConfigError(
            f"{path}: holds {found['model']['name']}, but config.model is {meta['model']['name']}"
        )
    if differing := spec_differences(preprocessing_of(found, path), parts.shards.spec):
        raise ConfigError(
            f"{path}: its weights expect other preprocessing than {parts.shards.folder} has: "
            f"{differing}; write the shards with the encoder's spec, or start without config.init"
        )
    meta["init"] = {
        "path": path,
        "provenance": found.get("provenance"),
        "sha256": params_sha256(params),
    }
    ema = None if state.ema is None else hosts.replicate(params, parts.mesh)
    return state.replace(params=hosts.replicate(params, parts.mesh), ema=ema)


def _meta(config: ConfigDict, parts: Parts) -> dict[str, Any]:
    """Returns the record that goes with every checkpoint of the run, as JSON gives it back."""
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
    meta = {
        "kind": "pretraining",
        "format_version": FORMAT_VERSION,
        "model": models.config_to_dict(models.get_config(config.model)),
        "config": config.to_dict(),
        "preprocessing": parts.shards.manifest["preprocessing"],
        "shards": parts.shards.fingerprint,
        "annotations": parts.annotations.fingerprints(NEEDED),
        "noise": parts.bank.fingerprint(),
        "versions": {
            "clef_jax": clef_jax.__version__,
            **{name: importlib.metadata.version(name) for name in packages},
        },
        "progress": {"best_loss": None, "best_step": None, "evaluations_since_best": 0},
    }
    return json.loads(json.dumps(meta))


def _require_same_run(folder: pathlib.Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raises ConfigError, naming every difference, unless continuing would change nothing."""
    if differing := run_differences(found, wanted):
        raise ConfigError(
            f"{folder}: holds a run that cannot go on like this: {'; '.join(differing)}. Set them "
            "as they were, or choose another workdir"
        )


def _peak_records_per_s(config: ConfigDict, parts: Parts) -> float | None:
    """Returns the rate at which the devices would work at their peak, or None if unknown."""
    peak = peaks.peak_flops(jax.devices()[0].device_kind, config.dtype)
    record = costs.train_flops(models.get_config(config.model), parts.shards.spec.samples)
    return peak * parts.mesh.size / record if peak and record else None


def _plot_map(
    model, state: TrainState, shards: ShardSet, annotations: Annotations, path: pathlib.Path
) -> None:
    """Draws the validation (if too few, the training) records by their embedding of lead II."""
    records, slots, split = embed.records_to_map(
        shards, annotations.is_validation, _LEAD_ON_MAP, most=_RECORDS_ON_MAP
    )
    if len(records) < 3:
        logging.warning("%d records have lead %s: no embedding map", len(records), _LEAD_ON_MAP)
        return
    params = jax.device_get(state.params if state.ema is None else state.ema)
    embed_records = embed.make_embed_records(model, hosts.data_mesh(jax.local_devices()))
    z = embed_records(params, shards, records, slots)
    title = f"{len(records)} {split} records, lead {_LEAD_ON_MAP}"
    plots.plot_embedding_map(z, annotations.columns["risk"][records], path, title=title)
