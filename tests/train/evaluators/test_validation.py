"""The validation loss: over every patient, in batches that no machine changes."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clef_jax import hosts
from clef_jax.data.annotations.annotations import Annotations
from clef_jax.data.batches.rows import DealtRows
from clef_jax.data.shards.store import ShardSet
from clef_jax.methods import read_options
from clef_jax.models import ResNeXt1D
from clef_jax.train.evaluators.evaluator import TooFew
from clef_jax.train.evaluators.validation import FilledRows, Validation
from clef_jax.train.state import TrainState

MODEL = ResNeXt1D(stem_width=8, ratio=0.5, stage_widths=(8, 16), stage_blocks=(1, 1), group_width=4)
NOISE = np.random.default_rng(1).normal(size=(4, 15, 6000)).astype(np.float32)
METHOD = read_options({"name": "clef"}).create(MODEL, NOISE)


def cohort(patients, training=0):
    """An index of that many validation patients, every other one with two records."""
    held_out = np.repeat(np.arange(patients), np.arange(patients) % 2 + 1)
    code = np.r_[held_out, patients + np.arange(training)]
    risk = np.zeros(code.size, np.float32)
    return types.SimpleNamespace(
        patient_code=code,
        annotations=Annotations({"risk": risk}, np.arange(code.size) < held_out.size),
        n_leads=np.full(code.size, 12),
    )


def rows_of(shards, **options):
    return DealtRows(
        shards.patient_code,
        shards.n_leads,
        shards.annotations.is_validation,
        records_per_patient="first",
        validation=True,
        **options,
    )


def validation_of(shards, devices, batch_size=64):
    mesh = hosts.data_mesh(jax.devices()[:devices])
    constants = hosts.replicate(METHOD.constants, mesh)
    return Validation(
        METHOD,
        shards,
        shards.annotations,
        constants,
        mesh,
        batch_size=batch_size,
        seed=3,
        num_threads=1,
    )


def initial_state(mesh):
    init = jax.jit(lambda key: METHOD.init(key, jnp.zeros((1, 5000, 1)), None))
    params, carried = init(jax.random.key(0))
    params = hosts.replicate(params, mesh)
    return TrainState(jnp.int32(0), params, opt_state=(), carried=carried, ema=None)


@pytest.mark.parametrize("batch_size", [2, 8, 32, 64, 100, 4096])
def test_every_patient_is_seen_in_batches_that_depend_on_patients_and_batch_size_alone(batch_size):
    for patients in [*range(2, 70), 109, 911]:
        index = cohort(patients)
        found = validation_of(index, devices=1, batch_size=batch_size)
        record = found.record
        assert record == validation_of(index, devices=3, batch_size=batch_size).record
        assert record["patients"] == patients
        assert record["batch_size"] == min(batch_size, patients)
        dealt = rows_of(index, batch_size=record["batch_size"], seed=3)
        assert dealt.steps_per_epoch == record["batches"]
        codes = np.stack([dealt[step].record for step in range(record["batches"])])
        codes = index.patient_code[codes]
        assert all(np.unique(batch).size == batch.size for batch in codes)
        times = np.bincount(codes.ravel(), minlength=patients)
        assert times.min() == 1 and times.max() <= 2
        assert np.count_nonzero(times == 2) == record["seen_twice"] < record["batch_size"]


def test_rows_are_repeated_until_every_device_has_as_many():
    for patients in (2, 5, 9, 64):
        dealt = rows_of(cohort(patients), batch_size=patients, seed=0)
        for devices in (1, 2, 3, 4, 8, 100):
            whole, filled = dealt[1], FilledRows(dealt, devices)[1]
            rows = np.arange(patients + -patients % devices) % patients
            assert filled.record.size % devices == 0
            assert filled.record.size - patients < devices
            np.testing.assert_array_equal(filled.record, whole.record[rows])
            np.testing.assert_array_equal(filled.slot, whole.slot[rows])


@pytest.mark.parametrize("patients", [0, 1])
def test_one_patient_cannot_be_compared(patients):
    with pytest.raises(TooFew, match=f"{patients} validation patients are too few"):
        validation_of(cohort(patients, training=5), devices=1)


# Of 15 patients; neither divides by 3 and 4.
@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [4, 64])
def test_the_loss_is_the_same_on_one_three_and_four_devices(shards_folder, batch_size):
    shards = ShardSet(shards_folder)
    losses = {}
    for devices in (1, 3, 4):
        validation = validation_of(shards, devices, batch_size)
        state = initial_state(hosts.data_mesh(jax.devices()[:devices]))
        losses[devices] = validation.loss(state, lambda: False)
    assert np.isfinite(losses[1])
    assert losses[3] == pytest.approx(losses[1], rel=1e-6)
    assert losses[4] == pytest.approx(losses[1], rel=1e-6)


@pytest.mark.slow
def test_a_signal_ends_it_between_two_batches(shards_folder):
    state = initial_state(hosts.data_mesh(jax.devices()[:1]))
    validation = validation_of(ShardSet(shards_folder), 1, 2)
    asked = []
    assert validation.loss(state, lambda: asked.append(1) or len(asked) > 2) is None
    assert len(asked) == 3 < validation.record["batches"]
