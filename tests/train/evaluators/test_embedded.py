"""The quick probe and the map of a shard set's held-out patients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib import image

from clef_jax import hosts
from clef_jax.data.shards.store import ShardSet
from clef_jax.data.signals import zscore
from clef_jax.models import ResNeXt1D
from clef_jax.train.evaluators.embedded import make_map, make_probe
from clef_jax.train.evaluators.evaluator import Evaluator, Inputs, TooFew
from clef_jax.train.evaluators.probe import read_by_probe
from clef_jax.train.state import TrainState
from tests.parameters import drawn

MODEL = ResNeXt1D(stem_width=4, ratio=0.5, stage_widths=(4, 8), stage_blocks=(1, 1), group_width=2)
LEAD_II = 1


@pytest.fixture
def inputs(shards_folder, tmp_path):
    """What both need: the rest is the validation loss's."""
    shards = ShardSet(shards_folder)
    return Inputs(MODEL, None, None, shards, shards.annotations, None, 0, 0, 1, tmp_path / "plots")


@pytest.fixture(scope="module")
def state():
    """Weights and, other than these, their average."""
    params = drawn(MODEL, np.zeros((1, 5000, 1), np.float32))
    state = TrainState(jnp.int32(3), {"encoder": params}, (), (), None)
    state = state.replace(ema=jax.tree.map(lambda leaf: 1.5 * leaf, state.params))
    return jax.device_put(state, hosts.replicated(hosts.data_mesh()))


def never():
    return False


def test_the_probe_reads_the_average_by_lead_ii_of_each_held_out_patients_first_record(
    inputs, state
):
    shards, annotations = inputs.shards, inputs.annotations
    first = {}
    for record in np.flatnonzero(annotations.is_validation):
        first.setdefault(shards.patient[record], record)
    records = np.array([first[patient] for patient in sorted(first)])
    assert len(records) == 15 < annotations.is_validation.sum()
    # One of them has another lead in the place of II, and is read by its first.
    slots = np.argmax(shards.lead_ids[records] == LEAD_II, axis=1)
    shards.lead_ids[records[4], slots[4]] = 2
    slots[4] = 0
    signal = shards.read(records, slots) * shards.scale_mv[records, slots][:, None].astype(float)
    params = jax.device_get(state.ema["encoder"])
    z = jax.jit(MODEL.apply)({"params": params}, zscore(signal)[:, :, None].astype(np.float32))
    columns = annotations.columns
    expected = read_by_probe(np.asarray(z), columns["age"][records], columns["risk"][records])
    found = make_probe(inputs, 0).evaluate(state, never)
    assert found == pytest.approx(expected, rel=1e-4)


def test_the_map_is_drawn_and_adds_no_values(inputs, state):
    assert make_map(inputs, 0).evaluate(state, never) == {}
    assert image.imread(inputs.plots / "embedding_map.png", format="png").std() > 0


def test_a_signal_ends_both_between_two_batches(inputs, state, monkeypatch):
    monkeypatch.setattr("clef_jax.train.evaluators.embedded._ROWS_AT_ONCE", 4)
    for make in (make_probe, make_map):
        evaluate = make(inputs, 0).evaluate
        asked = []
        assert evaluate(state, lambda asked=asked: asked.append(1) or len(asked) > 2) is None
        assert len(asked) == 3
    assert not inputs.plots.exists()


def test_where_there_is_nobody_to_look_at_there_is_no_evaluator(inputs):
    inputs.annotations.is_validation[:] = False
    with pytest.raises(TooFew, match="0 validation patients are too few for the probe"):
        make_probe(inputs, 0)
    inputs.shards.lead_ids[:] = 2
    with pytest.raises(TooFew, match="0 records have lead II, too few for the embedding map"):
        make_map(inputs, 0)


def test_an_evaluator_is_due_every_period_and_at_the_end():
    every_third, at_the_end = (Evaluator(lambda *_: {}, period) for period in (3, 0))
    due = [step for step in range(1, 9) if every_third.is_due(step, at_end=step == 8)]
    assert due == [3, 6, 8]
    assert [step for step in range(1, 9) if at_the_end.is_due(step, at_end=step == 8)] == [8]


def test_a_run_in_bfloat16_is_asked_in_float32_as_its_checkpoint_will_be(inputs, state):
    expected = make_probe(inputs, 0).evaluate(state, never)
    halved = inputs._replace(model=MODEL.clone(dtype=jnp.bfloat16))
    assert make_probe(halved, 0).evaluate(state, never) == expected
