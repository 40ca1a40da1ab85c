"""The loop on a toy: what it writes when, and what a signal does at any moment."""

import itertools
import json
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from clef_jax.checkpoints.encoder import load_params
from clef_jax.checkpoints.upgrades import FORMAT_VERSION
from clef_jax.train import optim
from clef_jax.train.clock import Clock
from clef_jax.train.evaluators.evaluator import Evaluator
from clef_jax.train.loop import Loop
from clef_jax.train.metrics import read_metrics
from clef_jax.train.recorder import NonFiniteLoss, open_recorder
from clef_jax.train.saved_states import SavedStates
from clef_jax.train.state import TrainState
from clef_jax.train.stopping import Progress, StopSignal
from tests.train.runs import assert_same_result

OPTIMIZER = optim.make_optimizer(optax.constant_schedule(0.1))
STEPS = 10


def initial():
    params = {"encoder": {"bias": jnp.arange(1.0, 4.0)}}
    return TrainState(jnp.int32(0), params, OPTIMIZER.init(params), carried=(), ema=None)


def weights(params):
    return params["encoder"]["bias"]


def step(state, batch):
    """Moves the weights towards the batch's number."""
    loss, grads = jax.value_and_grad(lambda p: jnp.mean((weights(p) - batch) ** 2))(state.params)
    updates, opt_state = OPTIMIZER.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    state = state.replace(step=state.step + 1, params=params, opt_state=opt_state)
    return state, {"loss": loss, "grad_norm": optax.tree.norm(grads)}


STEP = jax.jit(step)


def validation_loss(state, stopped):
    """A validation loss that falls and rises again as the weights pass by."""
    del stopped
    return {"validation/loss": float(jnp.mean((weights(state.evaluated) - 1) ** 2))}


VALIDATION = Evaluator(validation_loss, period=3)


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def run(folder, evaluators=(VALIDATION,), *, train_step=STEP, total_steps=STEPS, patience=0):
    """Runs the loop from what the folder holds, and returns the outcome."""
    folder.mkdir(exist_ok=True)
    with StopSignal() as stop, SavedStates(folder, keep=2) as saved:
        found, state, progress = saved.meta(), initial(), Progress()
        if found is not None:
            state = saved.restore(initial())
            progress = Progress(**found["progress"])
        unvalidated = None if found is None else found.get("row")
        done = int(state.step)
        recorder = open_recorder(
            folder,
            lambda number: [f"record {number}"],
            kept_steps=done - (unvalidated is not None),
            done=done,
            total=total_steps,
            tensorboard=False,
        )
        loop = Loop(
            train_step=train_step,
            batches=map(jnp.float32, itertools.count(done)),
            learning_rate=lambda number: 0.1,
            evaluators=evaluators,
            recorder=recorder,
            clock=Clock(1, None),
            saved=saved,
            record={"format_version": FORMAT_VERSION},
            stop=stop,
            total_steps=total_steps,
            log_steps=2,
            checkpoint_steps=4,
            patience=patience,
        )
        try:
            return loop.run(state, progress, unvalidated)
        finally:
            recorder.close()


def steps_in(folder):
    return sorted(int(path.name) for path in folder.glob("checkpoints/[0-9]*"))


@pytest.fixture
def whole(tmp_path):
    run(tmp_path / "whole")
    return tmp_path / "whole"


def test_rows_evaluations_and_checkpoints_come_when_they_are_due(tmp_path):
    asked = []

    def note(state, stopped):
        asked.append(int(state.step))
        return {}

    evaluators = (VALIDATION, Evaluator(note, period=5), Evaluator(note, period=0))
    outcome = run(tmp_path, evaluators)
    assert outcome.status == "finished" and int(outcome.state.step) == STEPS
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [2, 3, 4, 5, 6, 8, 9, 10]
    losses = {row["step"]: row["validation/loss"] for row in rows if "validation/loss" in row}
    assert list(losses) == [3, 6, 9, 10] and asked == [5, 10, 10]
    best = min(losses, key=losses.get)
    assert (outcome.progress.best_step, outcome.progress.best_loss) == (best, losses[best])
    # Every fourth step, those that were best, and the last: of them the two latest and the best.
    assert best < 8 and steps_in(tmp_path) == [best, 8, 10]


def test_the_end_by_patience_is_an_end_for_every_evaluator_and_stays(tmp_path):
    asked = []

    def never_better(state, stopped):
        return {"validation/loss": 1.0}

    def at_the_end(state, stopped):
        asked.append(int(state.step))
        return {"probe/effective_rank": 2.0}

    evaluators = (Evaluator(never_better, period=1), Evaluator(at_the_end, period=0))
    outcome = run(tmp_path, evaluators, patience=2)
    assert (outcome.status, int(outcome.state.step), asked) == ("stopped early", 3, [3])
    assert outcome.progress == Progress(best_loss=1.0, best_step=1, evaluations_since_best=2)
    assert read_metrics(tmp_path / "metrics.jsonl")[-1]["probe/effective_rank"] == 2.0
    again = run(tmp_path, evaluators, patience=2)
    assert again.status == "stopped early" and again.progress == outcome.progress
    assert int(again.state.step) == 3 and asked == [3]


@pytest.mark.parametrize(
    "at", [*(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 4, 10)), 3, 6]
)
def test_a_signal_in_a_step_saves_before_any_evaluation_and_the_run_goes_on(whole, tmp_path, at):
    """Step 1 has no row, 2 has, 4 is a checkpoint, 3 and 6 are validated, 10 is the last."""
    folder, asked = tmp_path / "stopped", []

    def signalled(state, batch):
        if int(state.step) + 1 == at:
            terminate()
        return STEP(state, batch)

    def note(state, stopped):
        asked.append(int(state.step))
        return validation_loss(state, stopped)

    evaluators = (Evaluator(note, period=3),)
    outcome = run(folder, evaluators, train_step=signalled)
    assert outcome.status == "interrupted" and int(outcome.state.step) == at
    evaluated = at % 3 == 0 or at == STEPS
    assert at not in asked
    assert (folder / "unvalidated" / "checkpoints" / str(at)).exists() == evaluated
    assert (at in steps_in(folder)) != evaluated
    assert run(folder, evaluators).status == "finished"
    assert not (folder / "unvalidated").exists()
    assert_same_result(folder, whole, STEPS)


@pytest.mark.parametrize("at", [6, pytest.param(STEPS, marks=pytest.mark.slow)])
def test_an_evaluation_that_a_signal_cuts_short_is_made_up_and_counts_once(tmp_path, at):
    """The signal comes in the second of two evaluators, twice."""

    def cut_short(state, stopped):
        if int(state.step) == at and remaining.pop():
            terminate()
        return None if stopped() else {"probe/effective_rank": float(state.step)}

    evaluators = (Evaluator(validation_loss, period=1), Evaluator(cut_short, period=3))
    remaining = [False]
    expected = run(tmp_path / "whole", evaluators)
    folder, remaining = tmp_path / "stopped", [False, True, True]
    for _ in range(2):
        outcome = run(folder, evaluators)
        assert outcome.status == "interrupted" and int(outcome.state.step) == at
        meta = json.loads((folder / f"unvalidated/checkpoints/{at}/meta/metadata").read_text())
        assert meta["progress"]["evaluations_since_best"] == outcome.progress.evaluations_since_best
    outcome = run(folder, evaluators)
    assert outcome.progress == expected.progress and outcome.status == "finished"
    assert_same_result(folder, tmp_path / "whole", STEPS)


def test_divergence_names_step_records_and_the_last_good_checkpoint(tmp_path):
    def diverging(state, batch):
        state, values = STEP(state, batch)
        return state, values | {"loss": jnp.where(state.step == 7, jnp.nan, values["loss"])}

    with pytest.raises(NonFiniteLoss) as error:
        run(tmp_path, train_step=diverging)
    assert "at step 7; records of that batch: record 7" in str(error.value)
    assert str(error.value).endswith(f"last good checkpoint: {tmp_path / 'checkpoints' / '6'}")
    assert json.loads((tmp_path / "nonfinite.json").read_text())["records"] == ["record 7"]
    params, _ = load_params(tmp_path / "checkpoints" / "6")
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


def test_divergence_before_any_checkpoint_says_so(tmp_path):
    def diverged(state, batch):
        state, values = STEP(state, batch)
        return state, values | {"loss": jnp.inf}

    with pytest.raises(NonFiniteLoss, match="last good checkpoint: none was saved yet"):
        run(tmp_path, train_step=diverged)
    assert steps_in(tmp_path) == []
