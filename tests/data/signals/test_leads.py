import itertools

import numpy as np
import pytest

from clef_jax.data.recordings.channels import why_no_ecg
from clef_jax.data.signals.leads import (
    NOISE_LEADS,
    STANDARD_LEADS,
    canonical_lead,
    find_lead,
    name_leads,
    unmodified_lead,
)

CHEST = tuple(f"C{i}" for i in range(1, 7))
# The 10-20 system and the electrodes of the 10-10 system at its places, references, derivations.
EEG = [
    *("Fp1", "Fp2", "F3", "F4", "F7", "F8", "Fz", "C3", "C4", "Cz", "T3", "T4", "T5", "T6", "T7"),
    *("T8", "P3", "P4", "P7", "P8", "Pz", "O1", "O2", "Oz", "A1", "A2", "M1", "M2", "C1", "C2"),
    *("C5", "C6", "FC1", "FC2", "CP5", "CP6", "AF3", "PO8", "F10", "Iz", "Nz", "C3-A2", "C4-M1"),
    *("O1-A2", "C4M1", "Fp1-F7", "Fpz-Cz", "F3-Ref", "C3-Avg"),
]
NUMBERED = [
    f"{word}{between}{number}"
    for word in ("", "ECG", "EKG", "ecg", "CH", "Ch", "Channel", "Signal", "ECG Ch")
    for between in ("", " ", "_", "-")
    for number in (1, 2, 3, 12)
]


@pytest.mark.parametrize("lead", NOISE_LEADS)
def test_every_spelling_of_a_lead_is_recognised(lead):
    for name in (lead, lead.lower(), lead.upper(), f" {lead} ", f"Lead {lead}", f"ECG {lead}"):
        assert canonical_lead(name) == lead
    for name in (f"ECG Lead {lead.lower()}", f"ecg_{lead}", f"EKG-LEAD-{lead}", f"lead.{lead}"):
        assert canonical_lead(name) == lead
    # BIDMC ends its names with a comma; the MASS recordings say it twice.
    for name in (f"{lead},", f"ECG ECG{lead}", f"{lead[0]}{lead[1:].lower()}"):
        assert canonical_lead(name) == lead


def test_other_conventions():
    assert [canonical_lead(n) for n in ("vx", "vy", "VZ", "Frank X")] == ["X", "Y", "Z", "X"]
    assert [canonical_lead(n) for n in ("D2", "DIII", "V 1", "aV_R")] == ["II", "III", "V1", "aVR"]
    assert [canonical_lead(n) for n in ("lead 2", "Lead1", "ECG lead_3")] == ["II", "I", "III"]


@pytest.mark.parametrize("name", ["MLII", "V7", "V3R", "noise1", "ECG", "", "MV1", "aVRX", "Lead"])
def test_unknown_names_are_kept(name):
    assert canonical_lead(f" {name} ") == name


@pytest.mark.parametrize("name", ["-aVR", "Lead -aVR", "I-II", "I I", "II-V1", "Lead 4", "V10"])
def test_names_that_only_resemble_a_lead(name):
    assert canonical_lead(name) == name


def test_order_and_number():
    assert len(STANDARD_LEADS) == 12
    assert NOISE_LEADS[:12] == STANDARD_LEADS
    assert len({lead.lower() for lead in NOISE_LEADS}) == 15


def test_no_numbered_channel_is_a_lead():
    for name in NUMBERED:
        assert canonical_lead(name) == name.strip()
    for count in range(1, 13):
        for word in ("", "ECG", "CH "):
            labels = [f"{word}{i + 1}" for i in range(count)]
            assert name_leads(labels) == tuple(label.strip() for label in labels)


def test_no_eeg_electrode_is_a_lead():
    rng = np.random.default_rng(0)
    for count in rng.integers(1, len(EEG), 200):
        labels = [str(label) for label in rng.permutation(EEG)[:count]]
        if set(labels) <= set(CHEST):
            continue
        labels += [str(lead) for lead in rng.permutation(["ECG II", "ECG1", "EOG(L)"])[:2]]
        names = dict(zip(labels, name_leads(labels), strict=True))
        assert all(names[label] == label for label in labels if label != "ECG II")
    for some in itertools.chain(*(itertools.combinations(CHEST, n) for n in range(1, 6))):
        assert name_leads(some) == some
    # a whole row of electrodes around the crown is no set of chest electrodes
    for other in ("Cz", "EEG Fpz", "O1-A2", "EOG left"):
        assert name_leads([*CHEST, other]) == (*CHEST, other)


def test_chest_electrodes_are_leads_in_a_complete_set():
    twelve = ["I", "II", "III", "aVR", "aVL", "aVF", *CHEST]
    assert name_leads(twelve) == STANDARD_LEADS
    assert name_leads(["ECG C6", "c 1", *CHEST[1:5]]) == ("V6", *STANDARD_LEADS[6:11])
    # each at its own place, with other channels between
    assert name_leads(["PLETH", *CHEST[::-1], "RESP"])[1:7] == STANDARD_LEADS[:5:-1]


def test_copies_are_named_apart():
    assert name_leads(["II", "V5", "ii", "Lead 2"]) == ("II", "V5", "II (2)", "II (3)")
    assert name_leads(["ECG", "ecg"]) == ("ECG", "ecg (2)")
    # a copy takes no name that another channel has
    assert name_leads(["II (2)", "II", "II"]) == ("II (2)", "II", "II (3)")
    assert name_leads(["", "signal 0", ""]) == ("signal 0", "signal 0 (2)", "signal 2")


def some_labels(rng):
    """Labels as files have them: leads in many spellings, EEGs, numbers, none; some repeated."""
    pool = [*NOISE_LEADS, *CHEST, *EEG, *NUMBERED, "ECG", "MLII", "PLETH", "V7", "II (2)", "", "-I"]
    spelled = [f"Lead {lead.lower()}" for lead in NOISE_LEADS] + ["ecg i", "D1", "Frank Y", "lead2"]
    labels = [str(label) for label in rng.choice([*pool, *spelled], rng.integers(1, 30))]
    return labels + list(CHEST) if rng.random() < 0.3 else labels


def test_properties_of_names():
    rng = np.random.default_rng(1)
    for _ in range(200):
        labels = some_labels(rng)
        names = name_leads(labels)
        assert len(names) == len(labels)
        assert len({name.lower() for name in names}) == len(names)
        assert name_leads(names) == names
        assert [canonical_lead(name) for name in names] == list(names)
        assert [find_lead(name.swapcase(), names) for name in names] == list(range(len(names)))
        # Apart from copies and channels without a label, order does not matter.
        order = rng.permutation(len(labels))
        of_permuted = name_leads([labels[i] for i in order])
        alike = [name.split(" (")[0].lower() for name in names]
        for name, i in zip(of_permuted, order, strict=True):
            if labels[i] and alike.count(alike[i]) == 1 and not alike[i].startswith("signal"):
                assert name == names[i]


def test_leads_are_found_in_any_spelling():
    names = name_leads(["ECG1", "mlii", "lead ii", "II", "C3"])
    assert names == ("ECG1", "mlii", "II", "II (2)", "C3")
    assert [find_lead(name, names) for name in ("ecg1", "MLII", "Lead II", "D2")] == [0, 1, 2, 2]
    assert [find_lead(name, names) for name in (" ii (2) ", "c3", "C3")] == [3, 4, 4]
    assert [find_lead(name, names) for name in ("1", "I", "V3", "ECG")] == [None] * 4


def test_modified_leads_stand_for_those_they_resemble():
    modified = ["MLI", "mlii", "ML III", "MCL1", "mv1", "CM5", "mod V2", "MaVR", "ECG MLII"]
    stand_for = ["I", "II", "III", "V1", "V1", "V5", "V2", "aVR", "II"]
    assert [unmodified_lead(label) for label in modified] == stand_for
    for label in ("II", "V5", "aVR", "M1", "C4-M1", "V9R", "E-S", "Fp1", "ECG"):
        assert unmodified_lead(label) == label


def test_channels_that_are_no_ecg():
    def kept(labels, units="mV"):
        units = units.split() if " " in units else [units] * len(labels)
        reasons = why_no_ecg(labels, units)
        return [label for label, reason in zip(labels, reasons, strict=True) if reason is None]

    monitor = ["II", "AVR", "V", "ABP", "PLETH", "RESP", "MCL1"]
    assert kept(monitor, "mV mV mV mmHg NU pm mV") == ["II", "AVR", "V", "MCL1"]
    assert kept(monitor) == ["II", "AVR", "V", "MCL1"]
    sleep = ["ECG", "EEG (C3-O1)", "EOG right", "C4-A1", "C3", "EMG chin", "SaO2", "Resp (sum)"]
    assert kept(sleep, "uV") == ["ECG"]
    # C1, C2 are a recorder's channels where no EEG is about, and a chest lead is no EEG
    assert kept(["C1", "C2", "ACC x"]) == ["C1", "C2"]
    assert kept([*CHEST, "I"]) == [*CHEST, "I"]
    assert kept([*CHEST, "I", "Cz"]) == ["I"]
    for label in ("ECG resp", "Abdomen_1", "noise1", "signal 0", "A-S", "Channel 7", "", "V5-V5R"):
        assert kept([label]) == [label]
    reasons = why_no_ecg(["II", "V1", "EOG"], ["mmHg", " ", "uV"])
    assert reasons[0] == "unit 'mmHg', expected mV, uV, µV, nV or V"
    assert reasons[1] == "no unit, expected mV, uV, µV, nV or V"
    assert reasons[2] == "by its label no ECG"


def test_a_label_with_a_line_break_is_a_name_like_another():
    assert canonical_lead("Lead\nII") == "II"
    assert canonical_lead("I\nmodified") == "I\nmodified"
