"""A pretraining run, from configuration to summary. The only module that sees the configuration."""

import dataclasses
import functools
import importlib.metadata
import importlib.util
import json
import math
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

import clef_jax
from clef_jax import checkpoint, flops, models, objectives, parallel
from clef_jax.data.noise import NoiseBankError, load_noise_bank
from clef_jax.data.pipeline import BatchPlans, PlanError
from clef_jax.data.shards import ShardError, ShardSet
from clef_jax.data.spec import PREPROCESSING, spec_conflict
from clef_jax.train import embed, metrics, optim, plots
from clef_jax.train.feed import device_batches
from clef_jax.train.recorder import NonFiniteLoss, Recorder
from clef_jax.train.same_run import run_differences
from clef_jax.train.state import TrainState, create_state
from clef_jax.train.step import make_eval_step, make_train_step
from clef_jax.train.stopping import StopSignal, note_validation

_LEAD_ON_MAP, _RECORDS_ON_MAP = "II", 4096


class ConfigError(ValueError):
    """A configuration that cannot be run; the message names the key, its value and the choices."""


# What a user can cause and mend; anything else deserves its traceback.
EXPECTED_ERRORS = (
    ConfigError,
    PlanError,
    ShardError,
    NoiseBankError,
    checkpoint.CheckpointError,
    NonFiniteLoss,
)


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
            the workdir holds a run of another configuration or other shards.
        PlanError: The shards hold too few patients for a batch.
        ShardError: The shards cannot be read.
        NoiseBankError: The noise recordings cannot be read.
        CheckpointError: A checkpoint is missing or does not fit.
        NonFiniteLoss: Training has diverged.
    """
    _check(config)
    if "://" in str(workdir):
        raise ConfigError(f"workdir {workdir} is a URL; use a folder that every host has mounted")
    stop = StopSignal()
    folder, reports = pathlib.Path(workdir).absolute(), jax.process_index() == 0

    # -- Data -------------------------------------------------------------------------------------
    mesh = parallel.data_mesh()
    if config.batch_size % mesh.size:
        lower = max(config.batch_size // mesh.size, 1) * mesh.size
        raise ConfigError(
            f"config.batch_size {config.batch_size} does not divide by {mesh.size} devices; use "
            f"{lower} or {lower + mesh.size}"
        )
    shards = ShardSet(shards_folder)
    plans = BatchPlans(
        shards,
        batch_size=config.batch_size,
        seed=config.seed,
        records_per_patient=config.records_per_patient,
    )
    total_steps = config.steps or config.epochs * plans.steps_per_epoch
    bank = load_noise_bank(config.noise or None)
    noise = parallel.replicate(bank.signal, mesh)

    # -- Model and step ---------------------------------------------------------------------------
    model = models.create_model(config.model, dtype=jnp.dtype(config.dtype), remat=config.remat)
    objective = _make_objective(config.objective)
    schedule = _make_schedule(config, plans.steps_per_epoch, total_steps)
    optimizer = optim.make_optimizer(
        schedule, weight_decay=config.weight_decay, clip_norm=config.clip_norm
    )
    train_step = make_train_step(
        model, objective, optimizer, mesh, seed=config.seed, ema_decay=config.ema_decay
    )
    validate = _make_validation(config, model, objective, shards, noise, mesh)

    # -- State: this run's checkpoint, else an encoder to start from, else new --------------------
    meta = _meta(config, shards, bank.fingerprint())
    checkpoints = checkpoint.Checkpoints(folder, keep=config.keep_checkpoints)
    initial = functools.partial(_initial_state, model, optimizer, config)
    if checkpoints.latest_step() is not None:
        found = checkpoints.meta()
        _require_same_run(folder, found, meta)
        meta |= {key: found[key] for key in ("progress", "init") if key in found}
        state = checkpoints.restore(jax.eval_shape(initial), mesh)
    else:
        state = jax.jit(initial, out_shardings=parallel.replicated(mesh))()
        if config.init:
            state = _start_from(config.init, state, meta, mesh)
    first = step = int(state.step)

    # -- Loop -------------------------------------------------------------------------------------
    log = None
    if reports:
        metrics.write_json(folder / "config.json", config.to_dict())
        log = metrics.MetricsLog(folder, step=step, tensorboard=config.tensorboard)
    recorder = Recorder(
        log, folder, lambda number: shards.record[plans[number - 1].record].tolist()
    )
    clock = metrics.Clock(config.batch_size, _peak_records_per_s(config, mesh))
    bar = metrics.progress_bar(total_steps, step, enabled=reports)
    batches = device_batches(
        shards,
        plans,
        mesh,
        first_step=step,
        num_threads=config.num_threads,
        num_workers=config.num_workers,
    )
    status = _status(config, meta["progress"])
    try:
        while step < total_steps and status == "finished":
            state, values = train_step(state, clock.next_batch(batches), noise)
            step += 1
            recorder.add(step, values)
            if step == first + 1:
                with clock.paused():
                    recorder.settle()  # Compilation ends here.

            if stop.requested(checkpoints, step) and step < total_steps:
                status = "interrupted"
            evaluates = step % config.eval_steps == 0 or step == total_steps
            row, validation_loss = {}, None
            if evaluates or step % config.log_steps == 0:
                row = recorder.settle() | {"train/learning_rate": float(schedule(step - 1))}
                row |= clock.rates()
            if evaluates and validate is not None:
                # Even when interrupted: skipped now, this evaluation would be missing for ever.
                with clock.paused():
                    validation_loss = validate(state.params if state.ema is None else state.ema)
                row["validation/loss"] = validation_loss
                meta["progress"] = note_validation(meta["progress"], step, validation_loss)
                if status == "finished":
                    status = _status(config, meta["progress"])
            if row:
                recorder.write(step, row)
                bar.set_postfix_str(recorder.line(), refresh=False)
            if (
                status != "finished"
                or step == total_steps
                or step % config.checkpoint_steps == 0
                or meta["progress"]["best_step"] == step
            ):
                with clock.paused():
                    recorder.settle()  # Never save a diverged state.
                    finite = validation_loss is not None and math.isfinite(validation_loss)
                    checkpoints.save(state, meta, validation_loss if finite else None)
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
        stop.restore()
        if log is not None:
            log.close()

    # -- Results ----------------------------------------------------------------------------------
    rows = metrics.read_metrics(folder / metrics.METRICS) if reports else []
    rates = [row["perf/records_per_s"] for row in rows if "perf/records_per_s" in row]
    losses = [row["train/loss"] for row in rows if "train/loss" in row]
    summary = {
        "status": status,
        "step": step,
        "steps": total_steps,
        "epochs": round(step / plans.steps_per_epoch, 3),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "training_patients": plans.patients,
        "first_train_loss": losses[0] if losses else None,
        "last_train_loss": losses[-1] if losses else None,
        "best_validation_loss": meta["progress"]["best_loss"],
        "best_step": meta["progress"]["best_step"],
        "records_per_s": round(float(np.median(rates)), 1) if rates else None,
        "noise": bank.source,
        "devices": f"{mesh.size} x {jax.devices()[0].device_kind}",
    }
    if reports:
        plots.plot_losses(rows, folder / "plots" / "loss.png")
        if status != "interrupted":
            _plot_map(model, state, shards, folder / "plots" / "embedding_map.png")
        metrics.write_json(folder / "summary.json", summary)
    return summary


def _check(config: ConfigDict) -> None:
    """Raises ConfigError for a value that no data or device could make possible."""
    for key in ("batch_size", "epochs", "log_steps", "eval_steps", "checkpoint_steps"):
        if config[key] < 1:
            raise ConfigError(f"config.{key} is {config[key]}; it must be at least 1")
    for key in ("seed", "steps", "patience", "num_workers"):
        if config[key] < 0:
            raise ConfigError(f"config.{key} is {config[key]}; it cannot be negative")
    if config.keep_checkpoints < 1:
        raise ConfigError("config.keep_checkpoints is 0; without one no run can be resumed")
    if config.model not in models.list_models():
        known = ", ".join(models.list_models())
        raise ConfigError(f"config.model is {config.model!r}; choose one of {known}")
    if config.tensorboard and importlib.util.find_spec("tensorboardX") is None:
        raise ConfigError("config.tensorboard needs: pip install 'clef-jax[tensorboard]'")
    if config.dtype not in ("float32", "bfloat16"):
        raise ConfigError(f"config.dtype is {config.dtype!r}; choose float32 or bfloat16")


def _status(config: ConfigDict, progress: dict[str, Any]) -> str:
    """Returns how the run ends if it does so now, by its validation losses."""
    exhausted = 0 < config.patience <= progress["evaluations_since_best"]
    return "stopped early" if exhausted else "finished"


def _make_objective(config: ConfigDict):
    if config.name == "simclr":

        def objective(z, risk, completeness, *, axis_name):
            return objectives.simclr_loss(z, temperature=config.temperature, axis_name=axis_name)

        return objective
    if config.name != "clef":
        raise ConfigError(f"config.objective.name is {config.name!r}; choose clef or simclr")
    if config.preset not in objectives.PRESETS:
        known = ", ".join(objectives.PRESETS)
        raise ConfigError(f"config.objective.preset is {config.preset!r}; choose one of {known}")
    return functools.partial(
        objectives.clef_loss,
        temperature=config.temperature,
        floor=config.floor,
        **objectives.PRESETS[config.preset],
    )


def _make_schedule(config: ConfigDict, steps_per_epoch: int, total_steps: int):
    if config.schedule == "warm_restarts":
        return optim.warm_restarts(config.learning_rate, steps_per_epoch)
    if config.schedule == "warmup_cosine":
        return optim.warmup_cosine(
            config.learning_rate, total_steps, warmup_steps=config.warmup_steps
        )
    raise ConfigError(
        f"config.schedule is {config.schedule!r}; choose warm_restarts or warmup_cosine"
    )


def _make_validation(config: ConfigDict, model, objective, shards: ShardSet, noise, mesh: Mesh):
    """Returns the function params -> mean loss of the held-out patients, or None if too few.

    Every batch holds as many patients, so that its loss is comparable; of the sizes up to the
    training batch's, the one that leaves out the fewest patients is taken.
    """
    patients = np.unique(shards.patient_code[shards.is_validation]).size
    sizes = range(mesh.size, min(config.batch_size, patients) + 1, mesh.size)
    size = max(sizes, key=lambda size: (patients - patients % size, size), default=0)
    if size < 2:
        if config.patience:
            raise ConfigError(
                f"config.patience is {config.patience}, but {patients} validation patients are too "
                "few to validate on; set it to 0 or hold out more patients in write_shards"
            )
        logging.warning("%d validation patients are too few; not validating", patients)
        return None
    plans = BatchPlans(
        shards, batch_size=size, seed=config.seed, records_per_patient="first", validation=True
    )
    eval_step = make_eval_step(model, objective, mesh, seed=config.seed)

    def validate(params) -> float:
        # Always the first epoch of the plans, so that losses differ by the weights alone.
        batches = device_batches(shards, plans, mesh, num_threads=config.num_threads)
        try:
            losses = [
                eval_step(params, jnp.int32(number), next(batches), noise)["loss"]
                for number in range(plans.steps_per_epoch)
            ]
            return float(np.mean(jax.device_get(losses)))
        finally:
            batches.close()

    return validate


def _initial_state(model, optimizer, config: ConfigDict) -> TrainState:
    x = jnp.zeros((1, PREPROCESSING.samples, 1))
    params = model.init(jax.random.key(config.seed), x)["params"]
    return create_state(params, optimizer, with_ema=config.ema_decay is not None)


def _start_from(path: str, state: TrainState, meta: dict[str, Any], mesh: Mesh) -> TrainState:
    """Returns the state with the weights of an encoder checkpoint, noted in `meta`."""
    params, found = checkpoint.load_params(path)
    try:
        same = models.config_from_dict(found["model"]) == models.config_from_dict(meta["model"])
    except ValueError as error:
        raise ConfigError(f"{path}: holds no encoder of this release: {error}") from None
    if not same:
        raise ConfigError(
            f"{path}: holds {found['model']['name']}, but config.model is {meta['model']['name']}"
        )
    if conflict := spec_conflict(found["preprocessing"]):
        raise ConfigError(
            f"{path}: its weights expect other preprocessing than this release does: {conflict}"
        )
    meta["init"] = {
        "path": path,
        "provenance": found.get("provenance"),
        "sha256": checkpoint.params_sha256(params),
    }
    ema = None if state.ema is None else parallel.replicate(params, mesh)
    return state.replace(params=parallel.replicate(params, mesh), ema=ema)


def _meta(config: ConfigDict, shards: ShardSet, noise: str) -> dict[str, Any]:
    """Returns the record that goes with every checkpoint of the run, as JSON gives it back."""
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
    meta = {
        "kind": "pretraining",
        "format_version": checkpoint.FORMAT_VERSION,
        "model": dataclasses.asdict(models.get_config(config.model)),
        "config": config.to_dict(),
        "preprocessing": shards.manifest["preprocessing"],
        "shards": shards.fingerprint,
        "noise": noise,
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


def _peak_records_per_s(config: ConfigDict, mesh: Mesh) -> float | None:
    """Returns the rate at which the devices would work at their peak, or None if unknown."""
    peak = flops.peak_flops(jax.devices()[0].device_kind, config.dtype)
    record = flops.train_flops(models.get_config(config.model), PREPROCESSING.samples)
    return peak and peak * mesh.size / record


def _plot_map(model, state: TrainState, shards: ShardSet, path: pathlib.Path) -> None:
    """Draws the validation (if too few, the training) records by their embedding of lead II."""
    records, slots, split = embed.records_to_map(shards, _LEAD_ON_MAP, most=_RECORDS_ON_MAP)
    if len(records) < 3:
        logging.warning("%d records have lead %s: no embedding map", len(records), _LEAD_ON_MAP)
        return
    params = jax.device_get(state.params if state.ema is None else state.ema)
    embed_records = embed.make_embed_records(model, parallel.data_mesh(jax.local_devices()))
    z = embed_records(params, shards, records, slots)
    title = f"{len(records)} {split} records, lead {_LEAD_ON_MAP}"
    plots.plot_embedding_map(z, shards.risk[records], path, title=title)
