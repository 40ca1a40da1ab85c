"""The stream of batches: what it holds, and that only seed and step decide it."""

import subprocess
import sys
import types

import numpy as np
import pytest

from clef_jax.data.annotations.annotations import Annotations
from clef_jax.data.batches.rows import DealtRows
from clef_jax.data.batches.stream import make_batches
from clef_jax.data.shards.store import ShardSet
from tests.waiting import children_of, wait_until_gone


@pytest.fixture(scope="module")
def shards(shards_folder):
    return ShardSet(shards_folder)


def rows_of(shards, batch_size=8, mode="random", seed=3):
    return DealtRows(
        shards.patient_code,
        shards.n_leads,
        shards.annotations.is_validation,
        batch_size=batch_size,
        seed=seed,
        records_per_patient=mode,
    )


def read(shards, dealt, **options):
    return make_batches(shards, dealt, columns=shards.annotations.columns, **options)


def take(batches, count):
    iterator = iter(batches)
    try:
        return [next(iterator) for _ in range(count)]
    finally:
        iterator.close()


def many_records(records=800_000, patients=161_352):
    """An index of MIMIC-IV-ECG's size; a few patients have very many records."""
    rng = np.random.default_rng(0)
    patient = np.r_[np.arange(patients), rng.integers(patients, size=records - patients - 500)]
    patient = np.r_[patient, np.repeat(7, 500)]
    return index_of(rng.permutation(patient))


def index_of(patient_code):
    """An index of these patients, none of them held out."""
    return types.SimpleNamespace(
        patient_code=patient_code,
        annotations=Annotations({}, np.zeros(patient_code.size, bool)),
        n_leads=np.full(patient_code.size, 12),
    )


def test_a_batch_is_what_the_shards_hold(shards):
    dealt = rows_of(shards)
    (batch,) = take(read(shards, dealt, first_step=5), 1)
    rows = dealt[5]
    np.testing.assert_array_equal(batch["record"], rows.record)
    for view in (0, 1):
        slot = rows.slot[:, view]
        np.testing.assert_array_equal(batch["ecg"][:, view], shards.read(rows.record, slot))
        np.testing.assert_array_equal(batch["lead"][:, view], shards.lead_ids[rows.record, slot])
        np.testing.assert_array_equal(
            batch["scale_mv"][:, view], shards.scale_mv[rows.record, slot]
        )
    annotations = shards.annotations.columns
    for name in ("risk", "completeness", "age", "male"):
        np.testing.assert_array_equal(batch[name], annotations[name][rows.record])
    assert {name: (a.dtype.name, a.shape) for name, a in batch.items()} == {
        "ecg": ("int16", (8, 2, 5000)),
        "scale_mv": ("float32", (8, 2)),
        "lead": ("int32", (8, 2)),
        "risk": ("float32", (8,)),
        "completeness": ("float32", (8,)),
        "age": ("float32", (8,)),
        "male": ("float32", (8,)),
        "record": ("int64", (8,)),
    }


@pytest.mark.parametrize(
    ("processes", "workers"),
    [(1, 0), (2, 0), (4, 0), pytest.param(2, 2, marks=pytest.mark.slow)],
)
def test_the_stream_is_the_same_however_it_is_read(shards, processes, workers):
    dealt = rows_of(shards)
    expected = take(read(shards, dealt, num_threads=1), 9)
    for process in range(processes):
        options = {"process_index": process, "process_count": processes, "num_workers": workers}
        found = take(read(shards, dealt, first_step=4, **options), 5)
        rows = slice(process * 8 // processes, (process + 1) * 8 // processes)
        for whole, part in zip(expected[4:], found, strict=True):
            for name in whole:
                np.testing.assert_array_equal(whole[name][rows], part[name])


def test_first_takes_every_patients_first_record(shards):
    dealt = rows_of(shards, mode="first")
    firsts = {np.flatnonzero(shards.patient_code == code)[0] for code in shards.patient_code}
    seen = np.concatenate([dealt[step].record for step in range(dealt.steps_per_epoch)])
    assert set(seen) <= firsts
    assert len(set(seen)) == len(seen) == dealt.patients // 8 * 8
    assert not shards.annotations.is_validation[seen].any()


def test_random_takes_another_record_in_another_epoch(shards):
    dealt = rows_of(shards, mode="random")
    epochs = 30
    seen = np.concatenate([dealt[s].record for s in range(epochs * dealt.steps_per_epoch)])
    train = np.flatnonzero(~shards.annotations.is_validation)
    assert set(seen) == set(train)
    codes = shards.patient_code[seen].reshape(epochs, -1)
    assert all(len(set(epoch)) == len(epoch) for epoch in codes)


@pytest.mark.parametrize("batch_size", [64, 1000])
def test_all_takes_every_record_and_never_two_of_a_patient_in_a_batch(batch_size):
    index = many_records()
    dealt = rows_of(index, batch_size=batch_size, mode="all")
    batches = np.stack([dealt[step].record for step in range(dealt.steps_per_epoch)])
    assert np.unique(batches).size == batches.size > 0.999 * index.n_leads.size - batch_size
    codes = np.sort(index.patient_code[batches], axis=1)
    assert (codes[:, 1:] != codes[:, :-1]).all()
    # A patient of 500 records shows them all, spread over the epoch.
    place = np.flatnonzero((index.patient_code[batches] == 7).any(axis=1))
    assert abs(place.mean() / len(batches) - 0.5) < 0.1
    later = dealt[dealt.steps_per_epoch].record
    assert not np.array_equal(later, batches[0])


def test_all_with_one_patient_of_nearly_all_records():
    patient = np.r_[np.zeros(90, int), np.arange(1, 11)]
    dealt = rows_of(index_of(patient), batch_size=4, mode="all")
    batches = np.stack([dealt[step].record for step in range(dealt.steps_per_epoch)])
    codes = np.sort(patient[batches], axis=1)
    assert (codes[:, 1:] != codes[:, :-1]).all()
    assert dealt.steps_per_epoch == 3  # Ten other patients fill three places in three batches.


def test_leads_are_uniform_and_mostly_shared_by_the_views():
    index = many_records(20_000, 20_000 - 600)
    slots = np.concatenate([rows_of(index, 1000)[step].slot for step in range(40)])
    counts = np.bincount(slots[:, 0], minlength=12)
    assert len(counts) == 12
    assert np.abs(counts / len(slots) - 1 / 12).max() < 0.006
    same = np.mean(slots[:, 0] == slots[:, 1])
    assert abs(same - (0.8 + 0.2 / 12)) < 0.01


def test_seeds_differ_and_steps_differ(shards):
    first = rows_of(shards)
    other = rows_of(shards, seed=4)
    assert not np.array_equal(first[0].record, other[0].record)
    assert not np.array_equal(first[0].slot, first[1].slot)


def test_impossible_batches_are_refused(shards):
    with pytest.raises(ValueError, match=r"\d+ training patients cannot fill a batch of 64"):
        rows_of(shards, batch_size=64)
    with pytest.raises(ValueError, match="choose first, random or all"):
        rows_of(shards, mode="some")
    with pytest.raises(ValueError, match="batch size 8 does not divide by 3 processes"):
        read(shards, rows_of(shards), process_count=3)


READ_FOR_EVER = """
import sys
from clef_jax.data.batches.rows import DealtRows
from clef_jax.data.batches.stream import make_batches
from clef_jax.data.shards.store import ShardSet

if __name__ == "__main__":
    from absl import flags

    flags.FLAGS.mark_as_parsed()
    shards = ShardSet(sys.argv[1])
    annotations = shards.annotations
    dealt = DealtRows(
        shards.patient_code, shards.n_leads, annotations.is_validation,
        batch_size=8, seed=3, records_per_patient="random",
    )
    columns = {"risk": annotations.columns["risk"]}
    batches = iter(make_batches(shards, dealt, columns=columns, num_workers=2))
    next(batches), next(batches)
    print("read", flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_reading_processes_leave_with_their_killed_parent(shards_folder, tmp_path):
    script = tmp_path / "read.py"
    script.write_text(READ_FOR_EVER)
    process = subprocess.Popen(
        [sys.executable, script, shards_folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"read\n"
    workers = children_of(process)
    assert len(workers) >= 2
    process.kill()
    process.communicate()
    wait_until_gone(workers)
