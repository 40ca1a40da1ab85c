"""Which rows a step trains on, and how they are read."""

import dataclasses

import numpy as np
import pytest

from clef_jax.evaluate.finetune import Options
from clef_jax.evaluate.finetune.batches import DealtExamples, ReadExamples
from tests.evaluate.finetune.cohort import inputs_of

# 20 rows are trained on, of which the first knows nothing; four of class 1.
LABELS = np.r_[np.nan, np.ones(4), np.zeros(35)]
INPUTS = inputs_of(np.arange(400, dtype=np.float32).reshape(40, 10), LABELS)
OPTIONS = Options(batch_size=8, epochs=3)


def rows(sampling="shuffled", seed=0):
    dealt = DealtExamples(INPUTS, dataclasses.replace(OPTIONS, sampling=sampling), seed)
    assert (len(dealt), dealt.steps_per_epoch) == (9, 3)
    return [dealt[step] for step in range(9)]


def test_every_epoch_shows_each_known_row_once_in_an_order_of_its_own():
    found = rows()
    epochs = [np.concatenate(found[first : first + 3]) for first in (0, 3, 6)]
    assert [len(batch) for batch in found] == [8, 8, 3] * 3
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(1, 20))
    assert not np.array_equal(epochs[0], epochs[1])
    assert not np.array_equal(epochs[0], np.concatenate(rows(seed=1)[:3]))
    np.testing.assert_array_equal(np.concatenate(rows()), np.concatenate(found))
    in_order = np.concatenate(rows("in order"))
    np.testing.assert_array_equal(in_order, np.tile(np.arange(1, 20), 3))


def test_balanced_draws_have_as_many_of_each_class():
    options = dataclasses.replace(OPTIONS, sampling="balanced", epochs=300)
    dealt = DealtExamples(INPUTS, options, 0)
    drawn = np.concatenate([dealt[step] for step in range(len(dealt))])
    # Four standard errors of 5,700 draws.
    assert LABELS[drawn].mean() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(len(drawn)))


def test_the_last_batch_is_filled_up_with_rows_of_which_nothing_is_known(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, INPUTS.x)
    read = ReadExamples(np.load(path, mmap_mode="r"), INPUTS.labels.astype(np.float32), 4)
    batch = read(np.array([7, 2]))
    np.testing.assert_array_equal(batch["x"][:2], INPUTS.x[[7, 2]])
    np.testing.assert_array_equal(batch["target"][:, 0], [0, 1, np.nan, np.nan])
    assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
        k: (v.shape, v.dtype) for k, v in read.shapes(4).items()
    }
