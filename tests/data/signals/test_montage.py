import json
import pickle

import pytest

from clef_jax.data.signals.leads import NOISE_LEADS
from clef_jax.data.signals.montage import ECG, Montage

HOLTER = Montage("holter", ("MLII", "V1", "V5"), {"ECG1": "MLII", "modified V5": "V5"})


def test_an_ecg_has_the_fifteen_leads_in_any_usual_spelling():
    assert ECG.leads == NOISE_LEADS
    assert [ECG.id_of(lead) for lead in NOISE_LEADS] == list(range(15))
    spelled = ("ecg ii", "Lead_V1", "D3", "Frank Z", "AVR", " i ")
    assert [ECG.find(label) for label in spelled] == ["II", "V1", "III", "Z", "aVR", "I"]
    assert [ECG.find(label) for label in ("MLII", "ECG", "", "-aVR", "1")] == [None] * 5


def test_another_montage_has_its_own_ids_and_aliases():
    assert [HOLTER.id_of(label) for label in ("mlii", "ecg v1", "V5")] == [0, 1, 2]
    assert [HOLTER.find(label) for label in ("ecg1", "Modified V5", "II")] == ["MLII", "V5", None]
    sleep = Montage("sleep", ("C3-M2", "C4-M1"), {"C3M2": "C3-M2"})
    assert [sleep.find(label) for label in ("c3-m2", "C3M2", "C4M1")] == ["C3-M2", "C3-M2", None]


def test_a_lead_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(ValueError, match=r"no lead 'II' in montage holter; it has MLII, V1, V5"):
        HOLTER.id_of("II")


@pytest.mark.parametrize(
    ("leads", "aliases", "message"),
    [
        ((), {}, "has 0 leads; expected 1 to 127"),
        (tuple(map(str, range(128))), {}, "has 128 leads"),
        (("II", "V1", "ii"), {}, "names II, ii more than once"),
        (("II",), {"MLV": "V1"}, "MLV stands for V1, which is none of its leads, II"),
    ],
)
def test_impossible_montages_are_refused(leads, aliases, message):
    with pytest.raises(ValueError, match=message):
        Montage("m", leads, aliases)


def test_montages_survive_json_and_processes():
    for montage in (ECG, HOLTER):
        assert Montage.from_dict(json.loads(json.dumps(montage.to_dict()))) == montage
        assert pickle.loads(pickle.dumps(montage)) == montage
        assert hash(montage) == hash(Montage(montage.name, montage.leads, montage.aliases))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reference": "A1"}, "missing or unknown: reference"),
        ({"leads": ["I", 2]}, "names are texts"),
    ],
)
def test_a_stored_montage_of_other_fields_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Montage.from_dict(ECG.to_dict() | change)
