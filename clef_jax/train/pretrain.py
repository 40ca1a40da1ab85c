"""Puts a pretraining run together, from its settings to its report."""

import contextlib
import pathlib
from typing import Any

import jax
from jax.sharding import Mesh

from clef_jax import hosts, models, stores
from clef_jax.cluster.agreement import agreement
from clef_jax.data.annotations.join import table_paths
from clef_jax.data.noise.load import load_noise_bank
from clef_jax.data.shards.store import ShardSet
from clef_jax.hardware import peaks
from clef_jax.models import costs
from clef_jax.ops.grouped_conv import choice
from clef_jax.train.claim import Claim
from clef_jax.train.clock import Clock
from clef_jax.train.convolutions import run_algorithms
from clef_jax.train.data import RunData, choose_data
from clef_jax.train.evaluators.make import make_evaluators
from clef_jax.train.feed import DeviceBatches, device_batches
from clef_jax.train.learner import make_learner, make_method
from clef_jax.train.loop import Loop
from clef_jax.train.profile import profiled, steps_to_trace
from clef_jax.train.recorder import Recorder, open_recorder
from clef_jax.train.report import report_run
from clef_jax.train.run_record import announce_run, common_facts, run_record
from clef_jax.train.saved_states import SavedStates
from clef_jax.train.settings import ConfigError, Configuration, RunSettings, read_settings
from clef_jax.train.start import Start, find_start
from clef_jax.train.stopping import StopSignal
from clef_jax.train.workdir import only_run


def pretrain(config: Configuration, shards_folder: str, workdir: str) -> dict[str, Any]:
    """Runs a pretraining to its end, or to a SIGTERM, continuing from the workdir's checkpoint.

    Args:
        config: As in `configs/`.
        shards_folder: A shard set of `tools/write_shards.py`, on a disk or in a store.
        workdir: Folder of this run, on a disk or in a store: config.json, run.json, metrics.jsonl,
            checkpoints/, plots/, summary.json.

    Returns:
        The report: `status` ("finished", "stopped early" or "interrupted"), steps, losses, rates.

    Raises:
        ConfigError: A value of the configuration is impossible, by itself or with these devices, or
            the workdir holds a run of another configuration, of other shards or annotations.
        WorkdirInUse: Another process runs in this workdir.
        StoreError: A store does not do as asked.
        BatchError: The shards hold too few patients for a batch.
        ShardError: The shards cannot be read.
        TableError: A table of annotations cannot be read, or does not fit the shards.
        AnnotationError: A column is needed that there is not.
        NoiseBankError: The noise recordings cannot be read.
        CheckpointError: A checkpoint is missing or does not fit.
        NonFiniteLoss: Training has diverged.
        ProcessesDiffer: Processes of a run would begin with different things.
        OtherProcessFailed: Another process of the run cannot begin.
    """
    mesh = hosts.data_mesh()
    with contextlib.ExitStack() as opened:
        stop = opened.enter_context(StopSignal())
        with agreement() as found:
            settings = read_settings(config)
            folder = stores.absolute(workdir)
            _require_disks(settings, folder)
            shards = ShardSet(shards_folder)
            bank = load_noise_bank(settings.data.noise or None, shards.spec)
            model, method = make_method(settings, shards, bank)
            data = choose_data(settings, shards, bank, method.needs, mesh)
            traced = steps_to_trace(settings.cadence.profile, data.total_steps)
            learner = make_learner(settings, model, method, data, mesh)
            evaluators = make_evaluators(settings, data, learner, mesh, folder)
            validation = evaluators["validation"].record if "validation" in evaluators else None
            record = run_record(settings, data, validation, mesh)
            found.update(common_facts(record))
        claim = opened.enter_context(only_run(folder))
        with SavedStates(folder, keep=settings.cadence.keep_checkpoints) as saved:
            algorithms = run_algorithms(saved.meta(), settings, shards.spec.samples, mesh)
            opened.enter_context(choice.using(algorithms))
            record["convolutions"] = algorithms
            start = find_start(saved, record, data, learner, mesh, folder)
            with agreement() as found:
                found["config.init"] = start.record.get("init", {}).get("sha256")
            if jax.process_index() == 0:
                announce_run(start.record, folder)
            train_step = opened.enter_context(
                profiled(learner.train_step, traced, folder / "profile", done=int(start.state.step))
            )
            with (
                contextlib.closing(
                    _open_recorder(settings, data, start, folder, claim)
                ) as recorder,
                contextlib.closing(_open_batches(settings, data, start, mesh)) as batches,
            ):
                loop = Loop(
                    train_step=train_step,
                    batches=batches,
                    learning_rate=learner.schedule,
                    evaluators=list(evaluators.values()),
                    recorder=recorder,
                    clock=_make_clock(settings, shards, mesh),
                    saved=saved,
                    record=start.record,
                    stop=stop,
                    total_steps=data.total_steps,
                    log_steps=settings.cadence.log_steps,
                    checkpoint_steps=settings.cadence.checkpoint_steps,
                    patience=settings.cadence.patience,
                )
                outcome = loop.run(start.state, start.progress, start.unvalidated)
        return report_run(outcome, data, validation, mesh, folder)


def _require_disks(settings: RunSettings, folder: pathlib.Path) -> None:
    """Raises ConfigError for what is read, or written in the run's folder, from disks alone."""
    for name in ("annotations", "noise"):
        for path in table_paths(getattr(settings.data, name)):
            if stores.is_stored(path):
                raise ConfigError(
                    f"config.{name} {path}: is in a store, where only shards, workdir and "
                    "config.init may be; copy it to a folder of every host: gcloud storage cp "
                    f"--recursive {path} FOLDER"
                )
    for name in ("tensorboard", "profile"):
        if stores.is_stored(folder) and getattr(settings.cadence, name):
            raise ConfigError(
                f"config.{name} writes to disks alone, and the workdir is in a store; leave it out "
                "or choose a folder for --workdir"
            )


def _open_recorder(
    settings: RunSettings, data: RunData, start: Start, folder: pathlib.Path, claim: Claim | None
) -> Recorder:
    done = int(start.state.step)

    def records_of(step: int) -> list[str]:
        return data.shards.record[data.batch_rows[step - 1].record].tolist()

    return open_recorder(
        folder,
        records_of,
        # A row that waits for its evaluations is written anew, with them.
        kept_steps=done if start.unvalidated is None else done - 1,
        done=done,
        total=data.total_steps,
        tensorboard=settings.cadence.tensorboard,
        claim=claim,
    )


def _open_batches(settings: RunSettings, data: RunData, start: Start, mesh: Mesh) -> DeviceBatches:
    return device_batches(
        data.shards,
        data.batch_rows,
        mesh,
        columns=data.columns,
        first_step=int(start.state.step),
        num_threads=settings.data.num_threads,
        num_workers=settings.data.num_workers,
    )


def _make_clock(settings: RunSettings, shards: ShardSet, mesh: Mesh) -> Clock:
    peak = peaks.peak_flops(mesh.devices.flat[0].device_kind, settings.encoder.dtype)
    encoder = models.get_config(settings.encoder.model)
    record = costs.train_flops(encoder, shards.spec.samples)
    peak_records_per_s = peak * mesh.size / record if peak and record else None
    return Clock(settings.data.batch_size, peak_records_per_s)
