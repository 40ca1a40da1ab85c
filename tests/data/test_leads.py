import pytest

from clef_jax.data.leads import NOISE_LEADS, STANDARD_LEADS, canonical_lead


@pytest.mark.parametrize("lead", NOISE_LEADS)
def test_every_spelling_of_a_lead_is_recognised(lead):
    for name in (lead, lead.lower(), lead.upper(), f" {lead} ", f"Lead {lead}", f"ECG {lead}"):
        assert canonical_lead(name) == lead
    for name in (f"ECG Lead {lead.lower()}", f"ecg_{lead}", f"EKG-LEAD-{lead}", f"lead.{lead}"):
        assert canonical_lead(name) == lead


def test_other_conventions():
    assert [canonical_lead(n) for n in ("vx", "vy", "VZ", "Frank X")] == ["X", "Y", "Z", "X"]
    assert [canonical_lead(n) for n in ("C1", "C6", "D2", "DIII")] == ["V1", "V6", "II", "III"]


@pytest.mark.parametrize("name", ["MLII", "V7", "V3R", "noise1", "ECG", "", "MV1", "aVRX", "Lead"])
def test_unknown_names_are_kept(name):
    assert canonical_lead(f" {name} ") == name


def test_order_and_number():
    assert len(STANDARD_LEADS) == 12
    assert NOISE_LEADS[:12] == STANDARD_LEADS
    assert len({lead.lower() for lead in NOISE_LEADS}) == 15
