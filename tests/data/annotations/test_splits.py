import re

import numpy as np
import pytest

from clef_jax.data.annotations.splits import is_validation_patient, split_by_hash, split_by_words
from clef_jax.tables.columns import TableError

RECORD = np.array(["a/1", "a/2", "b/1", "c/1"], object)
PATIENT = np.array(["p", "p", "q", "r"], object)


def test_split_is_stable_and_of_the_right_size():
    patients = [str(i) for i in range(20_000)]
    held_out = {p for p in patients if is_validation_patient(p, 0.05)}
    assert 0.045 < len(held_out) / 20_000 < 0.055
    assert held_out < {p for p in patients if is_validation_patient(p, 0.1)}
    # SHA-256("10000032") begins with 3a09dd…, 0.226713 of the range: it must stay there for ever.
    assert [is_validation_patient("10000032", f) for f in (0.22671, 0.22672)] == [False, True]
    assert not any(is_validation_patient(p, 0.0) for p in patients)


def test_a_split_by_hash_is_each_patients_own():
    patient = np.random.default_rng(0).permutation(np.repeat(np.arange(300), 3)).astype(str)
    found = split_by_hash(patient.astype(object), 0.4)
    assert found.tolist() == [is_validation_patient(name, 0.4) for name in patient]
    assert split_by_hash(np.array([], object), 0.4).shape == (0,)


def test_a_table_says_train_or_validation_in_any_case():
    words = np.array(["Train", " train", "VALIDATION", "train"], object)
    assert split_by_words(words, RECORD, PATIENT, "s.csv").tolist() == [False, False, True, False]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["train", "validation", "validation", "train"],
            "puts patient p on both sides, such as record a/1 to train and a/2 to validation",
        ),
        (["train", "train", "test", "tset"], "says 'test' of record b/1 and of 1 others; expected"),
        (["train", "train", "train", None], "says 'nothing' of record c/1 and of 0 others"),
    ],
)
def test_a_split_of_a_patient_or_of_other_words_is_refused(words, message):
    with pytest.raises(TableError, match=re.escape(f"s.csv: column split {message}")):
        split_by_words(np.array(words, object), RECORD, PATIENT, "s.csv")
