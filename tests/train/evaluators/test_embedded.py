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
from clef_jax.train.data import RunData
from clef_jax.train.evaluators.embedded import make_map, make_probe
from clef_jax.train.evaluators.evaluator import Evaluator
from clef_jax.train.evaluators.probe import read_by_probe
from clef_jax.train.state import TrainState

MODEL = ResNeXt1D(stem_width=4, ratio=0.5, stage_widths=(4, 8), stage_blocks=(1, 1), group_width=2)
LEAD_II = 1


@pytest.fixture
def data(shards_folder):
    shards = ShardSet(shards_folder)
    return RunData(shards, None, shards.annotations, {}, None, 0)


@pytest.fixture(scope="module")
def state():
    """Weights and, other than these, their average."""
    params = jax.jit(MODEL.init)(jax.random.key(0), jnp.zeros((1, 5000, 1)))["params"]
    state = TrainState(jnp.int32(3), {"encoder": params}, (), (), None)
    state = state.replace(ema=jax.tree.map(lambda leaf: 1.5 * leaf, state.params))
    return jax.device_put(state, hosts.replicated(hosts.data_mesh()))


def never():
    return False


def test_the_probe_reads_the_average_by_lead_ii_of_each_held_out_patients_first_record(data, state):
    shards, annotations = data.shards, data.annotations
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
    found = make_probe(MODEL, data)(state, never)
    assert found == pytest.approx(expected, rel=1e-4)


def test_the_map_is_drawn_and_adds_no_values(data, state, tmp_path):
    path = tmp_path / "plots" / "map.png"
    assert make_map(MODEL, data, path)(state, never) == {}
    assert image.imread(path, format="png").std() > 0


def test_a_signal_ends_both_between_two_batches(data, state, tmp_path, monkeypatch):
    monkeypatch.setattr("clef_jax.train.evaluators.embedded._ROWS_AT_ONCE", 4)
    path = tmp_path / "map.png"
    for evaluate in (make_probe(MODEL, data), make_map(MODEL, data, path)):
        asked = []
        assert evaluate(state, lambda asked=asked: asked.append(1) or len(asked) > 2) is None
        assert len(asked) == 3
    assert not path.exists()


def test_where_there_is_nobody_to_look_at_there_is_no_evaluator(data, tmp_path, caplog):
    data.annotations.is_validation[:] = False
    assert make_probe(MODEL, data) is None
    assert "0 validation patients are too few for the probe" in caplog.text
    data.shards.lead_ids[:] = 2
    assert make_map(MODEL, data, tmp_path / "map.png") is None
    assert "0 records have lead II: no embedding map" in caplog.text


def test_an_evaluator_is_due_every_period_and_at_the_end():
    every_third, at_the_end = (Evaluator(lambda *_: {}, period) for period in (3, 0))
    due = [step for step in range(1, 9) if every_third.is_due(step, at_end=step == 8)]
    assert due == [3, 6, 8]
    assert [step for step in range(1, 9) if at_the_end.is_due(step, at_end=step == 8)] == [8]
