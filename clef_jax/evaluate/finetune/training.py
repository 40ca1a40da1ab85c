"""One training: from an encoder to the parameters of its best epoch, on the shared loop."""

import contextlib
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from clef_jax import hosts
from clef_jax.data.noise.bank import NoiseBank
from clef_jax.data.signals.montage import Montage
from clef_jax.evaluate.finetune.batches import DealtExamples, ReadExamples, read_ahead
from clef_jax.evaluate.finetune.inputs import Inputs
from clef_jax.evaluate.finetune.method import make_loss, make_method, make_model
from clef_jax.evaluate.finetune.optimizer import make_optimizer
from clef_jax.evaluate.finetune.options import FinetuneError, Options
from clef_jax.evaluate.finetune.records import require_same
from clef_jax.evaluate.finetune.schedule import make_schedule
from clef_jax.evaluate.finetune.targets import Targets
from clef_jax.evaluate.finetune.validation import SELECTION, make_validation
from clef_jax.inference import Encoder
from clef_jax.methods.method import Batch, Metrics
from clef_jax.models import EncoderWithHead
from clef_jax.train.clock import Clock
from clef_jax.train.evaluators.evaluator import Evaluator
from clef_jax.train.loop import Loop
from clef_jax.train.program import StepProgram, join
from clef_jax.train.recorder import Recorder, open_recorder
from clef_jax.train.saved_states import SavedStates
from clef_jax.train.state import TrainState
from clef_jax.train.stopping import Progress, StopSignal
from clef_jax.train.workdir import only_run

# What a killed training has to do again is no more than so many steps, or an epoch.
_CHECKPOINT_STEPS = 200


class Trained(NamedTuple):
    """What came of a training: the network, its best epoch's parameters, and how that was found."""

    model: EncoderWithHead
    params: Any
    progress: Progress


def train(
    encoder: Encoder,
    inputs: Inputs,
    targets: Targets,
    options: Options,
    folder: pathlib.Path,
    record: Mapping[str, Any],
    noise: NoiseBank | None,
) -> Trained:
    """Returns what a training comes to, which goes on from the folder's newest checkpoint.

    Where no epoch could be ranked, the last one counts as the best.

    Args:
        encoder: Whose parameters it starts from, but from scratch.
        inputs: What is trained on.
        targets: What outputs stand for.
        options: How.
        folder: Of this training.
        record: Goes with every checkpoint; `seed` is its seed.
        noise: What augmentation adds.

    Raises:
        FinetuneError: Options and inputs do not fit, or the folder holds another training.
        KeyboardInterrupt: A signal came; the state is saved.
    """
    learner = _make_learner(encoder, inputs, targets, options, record["seed"], noise)
    program, dealt = learner.program, learner.dealt
    with StopSignal() as stop, only_run(folder), SavedStates(folder, keep=1) as saved:
        start = _start(saved, record, program, None if options.mode == "scratch" else encoder)
        done = int(start.state.step)
        with (
            contextlib.closing(_open_recorder(folder, inputs, dealt, start)) as recorder,
            contextlib.closing(
                read_ahead(dealt, learner.read, program.mesh, first_step=done)
            ) as batches,
        ):
            loop = Loop(
                train_step=learner.train_step,
                batches=batches,
                learning_rate=learner.schedule,
                evaluators=[learner.validation],
                recorder=recorder,
                clock=Clock(options.batch_size, None),
                saved=saved,
                record=record,
                stop=stop,
                total_steps=len(dealt),
                log_steps=dealt.steps_per_epoch,
                checkpoint_steps=min(dealt.steps_per_epoch, _CHECKPOINT_STEPS),
                patience=options.patience,
                ranked_by=SELECTION,
                least_gain=options.least_gain,
            )
            outcome = loop.run(start.state, start.progress, start.unvalidated)
        if outcome.status == "interrupted":
            raise KeyboardInterrupt
        state, progress = outcome.state, outcome.progress
        if progress.best_step is not None:
            state = saved.restore_best(_like(program), progress.best_step)
    return Trained(learner.model, jax.device_get(state.params), progress)


class _Learner(NamedTuple):
    """The network, what it is shown step by step, and what judges it."""

    model: EncoderWithHead
    program: StepProgram
    train_step: Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
    schedule: optax.Schedule
    dealt: DealtExamples
    read: ReadExamples
    validation: Evaluator


def _make_learner(
    encoder: Encoder,
    inputs: Inputs,
    targets: Targets,
    options: Options,
    seed: int,
    noise: NoiseBank | None,
) -> _Learner:
    mesh = hosts.data_mesh()
    model, loss = make_model(options, encoder.config, inputs), make_loss(options, inputs)
    method = make_method(model, loss, options, _noise_of(options, inputs, noise))
    dealt = DealtExamples(inputs, options, seed)
    rows = min(options.batch_size, len(inputs.rows("train")))
    target = targets.standardised(inputs.labels)
    read = ReadExamples(inputs.x, target, rows + -rows % mesh.size)
    schedule = make_schedule(options, dealt.steps_per_epoch)
    program = join(
        method,
        make_optimizer(options, schedule, encoder.config.layers),
        mesh,
        samples=inputs.x.shape[1],
        batch=read.shapes,
        seed=seed,
        ema_decay=None,
        shard_state=False,
    )
    constants = hosts.replicate(method.constants, mesh)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        return program.step(state, batch, constants)

    validation = make_validation(model, loss, targets, inputs, options, dealt.steps_per_epoch)
    return _Learner(model, program, train_step, schedule, dealt, read, validation)


def _open_recorder(
    folder: pathlib.Path, inputs: Inputs, dealt: DealtExamples, start: "_Start"
) -> Recorder:
    done = int(start.state.step)
    return open_recorder(
        folder,
        lambda step: inputs.example[dealt[step - 1]].tolist(),
        # A row that waits for its evaluation is written anew, with it.
        kept_steps=done if start.unvalidated is None else done - 1,
        done=done,
        total=len(dealt),
        tensorboard=False,
    )


class _Start(NamedTuple):
    """What a training goes on from."""

    state: TrainState
    progress: Progress
    unvalidated: dict[str, float] | None


def _start(
    saved: SavedStates, record: Mapping[str, Any], program: StepProgram, encoder: Encoder | None
) -> _Start:
    """Returns what to go on from: the newest state, else a new one upon the encoder's weights."""
    found = saved.meta()
    if found is not None:
        require_same(found, record)
        state = saved.restore(_like(program))
        return _Start(state, Progress(**found["progress"]), found.get("row"))
    params = None if encoder is None else hosts.replicate(encoder.params, program.mesh)
    state = jax.jit(program.initial, out_shardings=program.shardings)(params)
    return _Start(state, Progress(), None)


def _like(program: StepProgram) -> TrainState:
    return hosts.shapes_at(jax.eval_shape(program.initial, None), program.shardings)


def _noise_of(options: Options, inputs: Inputs, noise: NoiseBank | None) -> np.ndarray | None:
    if not options.augment:
        return None
    if noise is None:
        raise FinetuneError("augmentation adds noise, but no noise bank is given")
    bank = noise.on_leads(Montage("inputs", (inputs.lead,)))
    if bank.shape[-1] < inputs.x.shape[1]:
        raise FinetuneError(
            f"the noise bank is {bank.shape[-1]} samples long, inputs {inputs.x.shape[1]}; use a "
            "longer recording of noise"
        )
    return bank
