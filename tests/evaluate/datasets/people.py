"""Who is in the datasets that `native` writes: a few people of each, with the oddities of all."""

import numpy as np

_SINUS = [(1, "(N"), (12_000, ")")]
DISCHARGES = {
    "Home/Work (includes foster care)": (0, 0),
    "Left Against Medical Advice": (0, 0),
    "Home Health Care Services": (1, 1),
    "Skilled Nursing Facility with planned inpatient readmission": (1, 1),
    "Custodial/Supportive Care": (1, 1),
    "Acute Care Hospital": (2, 2),
    "Lucile Packard Children's Hospital": (2, 2),
    "Expired": (3, 3),
    "Hospice - Home": (3, 3),
    "Organ Donor": (3, 3),
    "Psychiatric Hospital": (4, 4),
    "Inpatient Rehabilitation Facility": (4, 4),
    # The order of the questions matters.
    "Psychiatric Hospital with Planned Inpatient Readmission": (2, 4),
    "Inpatient Rehabilitation Facility with Planned Inpatient Readmission": (2, 4),
    "Jail": (5, 5),
}
MCMED_SPLITS = ["train"] * 31 + ["val"] * 14 + ["test"] * 15


def beats(*at, symbol="N"):
    return [(sample, symbol) for sample in at]


def icentia_patient(number):
    """Sinus rhythm with an S beat, a V beat at the very edge, a V in the middle of the next."""
    first = beats(300, 6000, 6250) + beats(5000, symbol="S") + beats(100, symbol="V")
    first += beats(4000, symbol="Q")
    second = beats(2000, 5000) + beats(6000 + number, symbol="V")
    burst = [(1, "(N"), (3000, "(AFIB"), (3750, "(N"), (12_000, ")")]
    flutter = [(1, "(N"), (2000, "(AFL"), (11_000, ")")]
    name = f"p{number:05}"
    return name, {
        f"{name}_s00": (50, first, _SINUS if number % 2 else burst),
        f"{name}_s01": (50, second, flutter),
    }


def music_subjects():
    """60 subjects, each outcome in turn."""
    return [(f"P{at:04}", outcome) for at, outcome in enumerate([0, 1, 3, 6, 7] * 12)]


def mimic_rows():
    """60 studies of 25 patients, of one of which nothing is known."""
    draw = np.random.default_rng(1)
    rows = []
    for at in range(60):
        lvef = int(draw.integers(20, 70))
        rows.append((10_000_000 + at % 25, 40_000_000 + at, lvef, int(lvef <= 40)))
    rows[5] = (*rows[5][:2], "", "")
    return rows


def mcmed_visits():
    """60 visits of 30 patients; the fourth has no recording, the first two have odd values."""
    draw = np.random.default_rng(2)
    texts = list(DISCHARGES)
    rows = []
    for at in range(60):
        rows.append({
            "CSN": 98_000_000 + at,
            "MRN": 5000 + at // 2,
            "Age": 30 + at,
            "Gender": "FM"[at % 2],
            "Triage_acuity": f"{1 + at % 5}-Urgent",
            "ED_dispo": ["Discharge", "Inpatient", "Observation", "ICU", "Eloped"][at % 5],
            "DC_dispo": texts[at % len(texts)],
            "Triage_SBP": int(draw.integers(90, 180)),
            "Triage_DBP": int(draw.integers(50, 100)),
            "II_n_segments": 0 if at == 3 else 2,
        })  # fmt: skip
    rows[0]["Triage_SBP"] = 999
    rows[1]["Triage_SBP"] = ""
    rows[1]["ED_dispo"] = ""
    return rows


def aurora_people():
    """30 participants with one to four feature rows, and three who cannot be used."""
    draw = np.random.default_rng(3)
    people = {}
    for number in range(30):
        pressures = int(draw.integers(95, 160)), int(draw.integers(60, 95))
        people[f"a{number:03}"] = (*pressures, 1 + number % 4, 12.0)
    people["a030"] = (120, "", 2, 12.0)  # no diastolic pressure
    people["a031"] = (120, 80, 2, None)  # no recording
    people["o000"] = (135.5, 93.0, 5, None)  # of the other protocol
    return people
