"""Whom an encoder was trained on, by hashes: small, sorted, joined, and never guessed at."""

import base64
import hashlib
import json
import re

import pytest

from clef_jax.checkpoints.meta import CheckpointError
from clef_jax.checkpoints.patients import (
    PATIENTS,
    joined,
    patient_hashes,
    patients_in,
    with_patients,
)


def test_a_record_keeps_the_first_six_bytes_of_each_sha256_and_not_who_it_is():
    names = ["10000032", "10000084", "Ω", "10000032"]
    meta = json.loads(json.dumps(with_patients({"kind": "x"}, patient_hashes(names))))
    digests = sorted(hashlib.sha256(name.encode()).digest()[:6] for name in set(names))
    assert base64.b64decode(meta[PATIENTS]) == b"".join(digests)
    assert meta["kind"] == "x" and "10000032" not in meta[PATIENTS]
    assert patients_in(meta) == set(digests) == patient_hashes(reversed(names))
    assert patients_in(with_patients({}, frozenset())) == frozenset()
    assert patients_in({}) is patients_in({PATIENTS: None}) is None
    assert with_patients(meta, None) == {"kind": "x"}


def test_all_of_mimic_are_a_text_of_little_more_than_a_megabyte_and_no_two_alike():
    everyone = patient_hashes(str(10_000_000 + 123 * n) for n in range(161_352))
    assert len(everyone) == 161_352
    assert len(json.dumps(with_patients({}, everyone))) < 1_300_000
    strangers = patient_hashes(f"stranger {n}" for n in range(10_000))
    assert not everyone & strangers


def test_of_several_nothing_is_known_unless_it_is_of_each():
    a, b = patient_hashes("ab"), patient_hashes("bc")
    assert joined(a, b) == patient_hashes("abc")
    assert joined(a, frozenset()) == a and joined(frozenset(), frozenset()) == frozenset()
    assert joined(a, None) is joined(None, a) is joined(None) is None


@pytest.mark.parametrize("found", [["0123456789abcdef"], "not base64!", "YWJjZA==", 7])
def test_what_no_release_so_far_writes_is_refused(found):
    with pytest.raises(CheckpointError, match=re.escape(f"{PATIENTS} of the meta record: found")):
        patients_in({PATIENTS: found})
