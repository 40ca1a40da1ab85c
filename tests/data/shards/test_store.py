"""Shard sets as they are read: leads, columns, any order, threads."""

import concurrent.futures
import pickle
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from array_record.python.array_record_module import ArrayRecordReader

from clef_jax.data.annotations.join import MetadataTable
from clef_jax.data.annotations.splits import is_validation_patient
from clef_jax.data.recordings import read_recording
from clef_jax.data.shards.format import quantise
from clef_jax.data.shards.plan import WriteOptions
from clef_jax.data.shards.store import ShardSet
from clef_jax.data.shards.write import write_shards
from clef_jax.data.signals.leads import NOISE_LEADS, STANDARD_LEADS
from clef_jax.data.signals.preprocessing import preprocess


@pytest.fixture(scope="module")
def real_shards(real_data, tmp_path_factory):
    """12 PTB-XL records and one with 15 leads, in three shards."""
    base = tmp_path_factory.mktemp("shards")
    sources = sorted((real_data / "ptb-xl/records500/00000").glob("*"))[:24]
    sources += sorted((real_data / "ptbdb/patient001").glob("*"))
    for source in sources:
        shutil.copy(source, base / source.name)
    write_shards(
        base,
        base / "out",
        metadata=MetadataTable(str(real_data / "ptb-xl/ptbxl_database.csv")),
        validation_fraction=0.3,
        options=WriteOptions(records_per_shard=5),
        workers=1,
        progress=False,
    )
    return base


def every_lead(shards):
    records = np.repeat(np.arange(len(shards)), shards.n_leads)
    slots = np.concatenate([np.arange(n) for n in shards.n_leads])
    return records, slots


def test_quantising_keeps_half_a_step():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 500)) * 10 ** rng.uniform(-5, 3, (40, 1))
    x[3] = 0
    steps, scale = quantise(x)
    assert steps.dtype == np.int16 and scale.dtype == np.float32 and (scale > 0).all()
    error = np.abs(steps * scale.astype(np.float64)[:, None] - x)
    assert (error <= 0.5001 * scale[:, None]).all()
    assert (np.abs(steps).max(axis=1) == 32767)[np.arange(40) != 3].all()
    assert not steps[3].any()


def require_preprocessed_leads(shards, folder):
    records, slots = every_lead(shards)
    steps = shards.read(records, slots)
    assert steps.dtype == np.int16 and steps.shape == (shards.n_leads.sum(), 5000)
    scale = shards.scale_mv[records, slots].astype(np.float64)
    for i in range(shards.records):
        recording = read_recording(folder / shards.record[i])
        leads = [NOISE_LEADS[k] for k in shards.lead_ids[i, : shards.n_leads[i]]]
        order = [recording.leads.index(lead) for lead in leads]
        expected = preprocess(recording.signal_mv[order], recording.fs)
        mine = records == i
        error = np.abs(steps[mine] * scale[mine, None] - expected)
        # Records are read with a margin of a second; beyond it nothing changes but rounding.
        assert (error <= 0.5001 * scale[mine, None] + 1e-6).all()


def test_shards_hold_the_preprocessed_leads(shards_folder):
    shards = ShardSet(shards_folder)
    assert shards.records == len(shards) == len(pq.read_table(shards_folder / "index.parquet"))
    assert (shards.n_leads == 12).all()
    require_preprocessed_leads(shards, shards_folder.parent / "cohort")


def test_real_shards_hold_the_preprocessed_leads(real_shards):
    shards = ShardSet(real_shards / "out")
    assert sorted(shards.n_leads) == [12] * 12 + [15]
    require_preprocessed_leads(shards, real_shards)


def test_columns_of_tables_and_headers(real_shards):
    shards = ShardSet(real_shards / "out")
    assert list(shards.record) == sorted(shards.record)
    frank = shards.n_leads == 15
    assert frank.sum() == 1 and (shards.n_leads[~frank] == 12).all()
    assert shards.record[frank] == ["s0010_re"]
    assert [NOISE_LEADS[i] for i in shards.lead_ids[0] if i >= 0] == list(STANDARD_LEADS)
    assert ((shards.scale_mv > 0) == (shards.lead_ids >= 0)).all()
    known = shards.annotations.columns
    assert shards.patient[0] == "15709" and known["age"][0] == 56 and known["male"][0] == 0
    assert shards.patient[frank] == ["s0010_re"] and known["age"][frank] == 81
    assert np.isnan(known["risk"]).all() and np.isnan(known["completeness"]).all()
    assert known.keys() == {"risk", "completeness", "age", "male"}
    for values in (*known.values(), shards.scale_mv, shards.start_s):
        assert values.dtype == np.float32 and len(values) == 13
    assert (shards.start_s == 0).all()
    assert shards.patient_code.dtype == np.int64
    for a in range(13):
        same = shards.patient == shards.patient[a]
        np.testing.assert_array_equal(same, shards.patient_code == shards.patient_code[a])
    held_out = [is_validation_patient(patient, 0.3) for patient in shards.patient]
    assert shards.annotations.is_validation.tolist() == held_out
    assert 0 < sum(held_out) < 13


def test_any_order_and_repetition(shards_folder):
    shards = ShardSet(shards_folder)
    records, slots = every_lead(shards)
    everything = shards.read(records, slots)
    pick = np.random.default_rng(0).integers(0, len(records), 300)
    np.testing.assert_array_equal(shards.read(records[pick], slots[pick]), everything[pick])
    assert shards.read([], []).shape == (0, 5000)


def test_an_entry_is_what_the_index_says(shards_folder):
    out = shards_folder
    index = pq.read_table(out / "index.parquet").to_pylist()
    shards = ShardSet(out)
    for i, row in enumerate(index):
        reader = ArrayRecordReader(str(out / f"leads-{row['shard']:05d}.array_record"))
        entry = np.frombuffer(reader.read([row["first_entry"] + 2])[0], "<i2")
        np.testing.assert_array_equal(shards.read([i], [2])[0], entry)


def test_threads_and_pickling(shards_folder):
    shards = ShardSet(shards_folder)
    records, slots = every_lead(shards)
    expected = shards.read(records, slots)
    copy = pickle.loads(pickle.dumps(ShardSet(shards_folder)))
    assert copy.fingerprint == shards.fingerprint

    def read(seed):
        pick = np.random.default_rng(seed).integers(0, len(records), 64)
        return np.array_equal(copy.read(records[pick], slots[pick]), expected[pick])

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(64)))


@pytest.mark.parametrize(("record", "slot"), [(10_000, 0), (-1, 0), (0, 12), (0, -1)])
def test_reading_what_is_not_there(shards_folder, record, slot):
    with pytest.raises(IndexError):
        ShardSet(shards_folder).read([0, record], [0, slot])
