"""Cohorts for demonstrations: folders of recordings with a record list and a metadata table.

Either wholly simulated, in MIMIC-IV-ECG's layout, or made of real recordings, whose age and sex
are real where known and whose other risk factors are synthetic. The column `provenance` of
metadata.csv says which is which.
"""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from absl import logging
from tqdm import tqdm

from clef_jax.data.demo.hearts import FS, draw_heart, simulate_ecg
from clef_jax.data.recordings import RecordingError, open_recording
from clef_jax.data.recordings.demographics import parse_age, parse_sex
from clef_jax.data.recordings.folders import search_folder
from clef_jax.data.recordings.formats import expected_files
from clef_jax.errors import ClefError
from clef_jax.files import only_writer, replacing_folder
from clef_jax.tables.files import write_table

# MIMIC-IV-ECG's order, which is not the usual one.
_MIMIC_LEADS = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")
_USUAL_ROWS = [0, 1, 2, 3, 5, 4, 6, 7, 8, 9, 10, 11]
_ADU_PER_MV = 200

_METADATA = (
    "subject_id",
    "age",
    "sex",
    "smoker",
    "sbp_mmhg",
    "total_chol_mmol_l",
    "hdl_mmol_l",
    "diabetes",
    "age_at_diagnosis",
    "hba1c_mmol_mol",
    "egfr",
    "provenance",
)
_SOMETIMES_MISSING = _METADATA[3:11]
_MISSING_SHARE = 0.02


class CohortError(ClefError):
    """A cohort that cannot be written; the message says where and what to do."""


class Person(NamedTuple):
    """What is known of the patient of a recording.

    Attributes:
        patient: Identifier, the same for all recordings of a patient.
        age: Years, None where unknown.
        sex: "male", "female" or None.
        source: Which file said so.
    """

    patient: str
    age: float | None
    sex: str | None
    source: str


def draw_risk_factors(
    age: np.ndarray, male: np.ndarray, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Draws risk factors that go with age and sex as in a European clinic.

    Args:
        age: Years, [patients].
        male: 1 or 0, [patients].
        rng: Random numbers.

    Returns:
        Arrays [patients] under the names of the metadata table; those of diabetes are NaN in
        patients without.
    """
    patients = age.size
    decades = (age - 60) / 10
    smoker = rng.random(patients) < np.clip(0.24 + 0.05 * male - 0.07 * decades, 0.03, 1)
    sbp = rng.normal(133 + 5.5 * decades + 2 * male, 15)
    diabetes = rng.random(patients) < 1 / (1 + np.exp(2 - 0.35 * decades - (sbp - 133) / 40))
    chol = rng.normal(5.4 - 0.15 * decades - 0.5 * diabetes, 1.0)
    hdl = rng.normal(1.5 - 0.25 * male - 0.12 * smoker - 0.12 * diabetes, 0.3)
    diagnosed = np.maximum(age - rng.exponential(8, patients), 0.6 * age)
    factors = {
        "smoker": smoker.astype(float),
        "sbp_mmhg": np.clip(sbp, 90, 215).round(),
        "total_chol_mmol_l": np.clip(chol, 2.6, 10).round(2),
        "hdl_mmol_l": np.clip(hdl, 0.6, 2.6).round(2),
        "diabetes": diabetes.astype(float),
        "age_at_diagnosis": np.floor(diagnosed),
        "hba1c_mmol_mol": np.clip(rng.normal(56, 11, patients), 40, 120).round(),
        "egfr": np.clip(rng.normal(84 - 9 * decades, 13), 20, 125).round(),
    }
    for name in ("age_at_diagnosis", "hba1c_mmol_mol", "egfr"):
        factors[name][~diabetes] = np.nan
    return factors


def write_simulated_cohort(
    out: str | os.PathLike, patients: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Writes simulated recordings in MIMIC-IV-ECG's layout, record_list.csv and metadata.csv.

    Each patient has one to three 12-lead recordings of 10 s at 500 Hz. The content is a function
    of patients and seed. The folder appears when it is complete.

    Args:
        out: Folder to make; must not exist, or be empty.
        patients: How many, at least 1.
        seed: Of all random numbers.

    Returns:
        The record list and the metadata.

    Raises:
        CohortError: `out` holds something, or fewer than 1 patient.
    """
    out = pathlib.Path(out)
    if patients < 1:
        raise CohortError(f"{patients} patients asked for; at least 1 is needed.")
    with only_writer(out):
        return _write_cohort(out, patients, seed)


def _write_cohort(out: pathlib.Path, patients: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CohortError(f"{out} is not empty. Remove it or choose another folder.")
    rng = np.random.default_rng([seed, 0])
    people = _draw_patients(patients, rng)
    records = _draw_studies(people["subject_id"], rng)
    metadata = _with_gaps(people, rng)
    with replacing_folder(out) as unfinished:
        _write_recordings(unfinished, people, records, seed)
        write_table(records, unfinished / "record_list.csv")
        write_table(metadata, unfinished / "metadata.csv")
    return records, metadata


def _write_recordings(folder, people, records, seed):
    paths_of = dict(list(records.groupby("subject_id")["path"]))
    for number, person in enumerate(tqdm(people.to_dict("records"), "Simulating", unit="pat")):
        # A stream of random numbers for each patient: the first patients of a larger cohort do
        # not depend on the later ones' recordings.
        own = np.random.default_rng([seed, 1, number])
        heart = draw_heart(person | {"male": float(person["sex"] == "male")}, own)
        for path in paths_of[person["subject_id"]]:
            _write_record(folder / path, simulate_ecg(heart, own))


def write_cohort_of_recordings(
    recordings: str | os.PathLike, out: str | os.PathLike, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Writes record_list.csv and metadata.csv for a folder of real recordings.

    Age, sex and the patient come from ptbxl_database.csv or ludb.csv in or above the recordings'
    folders, or from header comments; where they are unknown they stay blank, and the record
    stands in for the patient. SMOKING, PRESSURE, CHOLESTEROL AND DIABETES ARE MADE UP, drawn at
    random given age and sex: they let the pipeline run and mean nothing about the patients.

    Args:
        recordings: Folder with recordings at any depth; not changed.
        out: Folder for the two tables.
        seed: Of the made-up risk factors.

    Returns:
        The record list (path relative to `recordings`, subject_id, study_id) and the metadata.

    Raises:
        CohortError: No recording is found.
    """
    # Absolute, because a database's table may lie above the folder.
    recordings, out = pathlib.Path(os.path.abspath(recordings)), pathlib.Path(out)
    paths = [found.path for found in search_folder(recordings)[0]]
    if not paths:
        raise CohortError(f"No recording found in {recordings} or below it; {expected_files()}.")
    people = _people(paths, recordings)
    relative = [os.path.relpath(path, recordings) for path in paths]
    records = pd.DataFrame(
        {
            "subject_id": [person.patient for person in people],
            "study_id": relative,
            "path": relative,
        }
    )
    first = {person.patient: person for person in reversed(people)}
    metadata = _made_up_factors([first[patient] for patient in sorted(first)], seed)
    logging.warning(
        "SYNTHETIC risk factors: of %d patients, age and sex are real where known; smoking, blood "
        "pressure, cholesterol and diabetes are made up at random.",
        len(metadata),
    )
    write_table(records, out / "record_list.csv")
    write_table(metadata, out / "metadata.csv")
    return records, metadata


def _draw_patients(patients, rng):
    age = rng.normal(61, 12, patients)
    while (outside := (age < 36) | (age >= 90)).any():
        age[outside] = rng.normal(61, 12, np.count_nonzero(outside))
    age = np.floor(age)
    male = (rng.random(patients) < 0.5).astype(float)
    ids = 10_000_000 + np.sort(rng.choice(9_999_999, patients, replace=False))
    return pd.DataFrame(
        {"subject_id": ids, "age": age, "sex": np.where(male == 1, "male", "female")}
        | draw_risk_factors(age, male, rng)
        | {"provenance": "simulated"}
    )[list(_METADATA)]


def _draw_studies(subjects, rng):
    subject = np.repeat(
        subjects.to_numpy(), rng.choice([1, 2, 3], subjects.size, p=[0.5, 0.3, 0.2])
    )
    study = 40_000_000 + rng.choice(9_999_999, subject.size, replace=False)
    seconds = rng.integers(0, 90 * 365 * 86_400, subject.size)
    return pd.DataFrame(
        {
            "subject_id": subject,
            "study_id": study,
            "file_name": study,
            "ecg_time": pd.Timestamp("2110-01-01") + pd.to_timedelta(seconds, unit="s"),
            "path": [
                f"files/p{person // 10_000}/p{person}/s{number}/{number}"
                for person, number in zip(subject, study, strict=True)
            ],
        }
    )


def _with_gaps(metadata, rng):
    """Blanks a few values, as every clinic's table has them."""
    gaps = rng.random((len(metadata), len(_SOMETIMES_MISSING))) < _MISSING_SHARE
    columns = list(_SOMETIMES_MISSING)
    # Whole numbers as such: 1 rather than 1.0 for a smoker.
    return metadata.assign(**metadata[columns].mask(gaps)).convert_dtypes()


def _write_record(path, signal_mv):
    """Writes a 12-lead ECG in the usual order as MIMIC-IV-ECG stores it: format 16, 200 adu/mV."""
    digital = np.rint(signal_mv[_USUAL_ROWS] * _ADU_PER_MV)
    digital = np.clip(digital, -32_767, 32_767).astype("<i2")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".dat").write_bytes(digital.T.tobytes())
    # A WFDB checksum is the sum of a lead's samples, in 16 bits.
    checksums = digital.sum(axis=1, dtype=np.int64).astype(np.int16)
    lines = [f"{path.name} {len(_MIMIC_LEADS)} {FS} {digital.shape[1]}"]
    for lead, samples, checksum in zip(_MIMIC_LEADS, digital, checksums, strict=True):
        gain = f"{_ADU_PER_MV}.0(0)/mV"
        lines.append(f"{path.name}.dat 16 {gain} 16 0 {samples[0]} {checksum} 0 {lead}")
    lines.append("# Simulated recording, of no real patient")
    path.with_suffix(".hea").write_text("\n".join(lines) + "\n")


def _people(paths: Sequence[str], top: pathlib.Path) -> list[Person]:
    readers = {"ptbxl_database.csv": _people_of_ptbxl, "ludb.csv": _people_of_ludb}
    known: dict[str, Person] = {}
    folders = {parent for path in {os.path.dirname(path) for path in paths}
               for parent in _up_to(pathlib.Path(path), top.parent)}  # fmt: skip
    for folder in sorted(folders):
        for name, read in readers.items():
            if (folder / name).is_file():
                known |= read(folder / name)
    return [
        known.get(os.path.normpath(path)) or _person_of_header(path, top)
        for path in tqdm(paths, "Reading headers", unit="rec")
    ]


def _up_to(folder, top):
    """The folder and those above it, as far as `top`."""
    within = [folder, *folder.parents]
    return within[: within.index(top) + 1] if top in within else within[:1]


def _person_of_header(path, top):
    stand_in = os.path.relpath(path, top)
    try:
        header = open_recording(path).header
    except RecordingError as error:
        # Listed all the same: write_shards rejects it with this reason.
        logging.warning("Unreadable header: %s", error)
        return Person(stand_in, None, None, "nothing")
    return Person(header.patient or stand_in, header.age, header.sex, "header comments")


def _people_of_ptbxl(table) -> Mapping[str, Person]:
    # sex is 0 for male and 1 for female in this table.
    sexes = {"0": "male", "1": "female"}
    rows = pd.read_csv(table, dtype="string", keep_default_na=False)
    return {
        os.path.normpath(table.parent / row[file]): Person(
            row["patient_id"].removesuffix(".0"),
            parse_age(row["age"]),
            sexes.get(row["sex"]),
            table.name,
        )
        for row in rows.to_dict("records")
        for file in ("filename_hr", "filename_lr")
    }


def _people_of_ludb(table) -> Mapping[str, Person]:
    rows = pd.read_csv(table, dtype="string", keep_default_na=False)
    return {
        os.path.normpath(table.parent / "data" / row["ID"].strip()): Person(
            f"ludb/{row['ID'].strip()}", parse_age(row["Age"]), parse_sex(row["Sex"]), table.name
        )
        for row in rows.to_dict("records")
    }


def _made_up_factors(people: Sequence[Person], seed: int) -> pd.DataFrame:
    rng = np.random.default_rng([seed, 2])
    age = np.array([np.nan if person.age is None else person.age for person in people])
    sexes = [person.sex for person in people]
    # Risk factors of patients of unknown age or sex are drawn as for some age and sex; the
    # unknown stays blank.
    some_age = np.where(np.isnan(age), rng.normal(61, 12, age.size), age)
    coin = rng.random(age.size) < 0.5
    male = np.array([s == "male" if s else c for s, c in zip(sexes, coin, strict=True)], float)
    metadata = pd.DataFrame(
        {"subject_id": [person.patient for person in people], "age": age, "sex": sexes}
        | draw_risk_factors(some_age, male, rng)
        | {"provenance": [f"patient, age, sex: {p.source}; the rest synthetic" for p in people]}
    )[list(_METADATA)]
    return _with_gaps(metadata, rng)
