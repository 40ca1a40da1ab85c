"""Records joined with what tables say of each one's patient and risk."""

import dataclasses

import numpy as np
import pandas as pd
from absl import logging

from clef_jax.data.recordings.demographics import parse_age
from clef_jax.tables.columns import TableError, find_column, is_blank, normalised, quantities, sexes
from clef_jax.tables.files import read_table
from clef_jax.tables.matching import (
    PATIENT_COLUMNS,
    identifiers,
    match_rows,
)

# Column names as `normalised` spells them, the preferred first.
AGE_COLUMNS = ("age", "age_at_ecg", "anchor_age")
SEX_COLUMNS = ("sex", "gender")
RISK_COLUMNS = ("risk", "score2_risk")
COMPLETENESS_COLUMNS = ("completeness", "rate_meta")

_PTB_XL_COLUMNS = {"filename_hr", "scp_codes"}


@dataclasses.dataclass(frozen=True)
class MetadataTable:
    """A table of patients or recordings and which of its columns to take.

    Attributes:
        path: File of any kind that `tables.files.read_table` reads.
        key_column: Says whose row it is: a record's path or name, a study or a patient. Found by
            name when None, like the other columns.
        patient_column: Patient identifiers.
        age_column: Ages in years.
        sex_column: Sexes.
        sex_coding: What 0 and 1 mean as a sex, a key of `tables.columns.SEX_CODINGS`; known
            for PTB-XL.
    """

    path: str
    key_column: str | None = None
    patient_column: str | None = None
    age_column: str | None = None
    sex_column: str | None = None
    sex_coding: str | None = None


@dataclasses.dataclass(frozen=True)
class RiskTable:
    """A table of risks, by `tools/compute_risk.py` or as published with the original CLEF.

    Attributes:
        path: File of any kind that `tables.files.read_table` reads.
        key_column: As of `MetadataTable`.
        risk_column: Risk in percent.
        completeness_column: Share of the risk's attributes that were known, 0 to 1.
    """

    path: str
    key_column: str | None = None
    risk_column: str | None = None
    completeness_column: str | None = None


def join_metadata(
    records: pd.DataFrame, table: MetadataTable | None, folder: str
) -> tuple[pd.DataFrame, int]:
    """Adds patient (where still unknown), age (float32, NaN) and sex (None) to each record.

    Returns:
        The records with these columns, and how many of them the table describes.
    """
    records = records.assign(age=np.float32(np.nan), sex=None)
    if table is None:
        return records, 0
    frame = read_table(table.path)
    find_column(frame, (), table.key_column, table.path)
    wanted = {
        "patient": find_column(frame, PATIENT_COLUMNS, table.patient_column, table.path),
        "age": find_column(frame, AGE_COLUMNS, table.age_column, table.path),
        "sex": find_column(frame, SEX_COLUMNS, table.sex_column, table.path),
    }
    if not any(wanted.values()):
        raise TableError(
            f"{table.path}: no column for patient, age or sex; found {', '.join(frame.columns)}; "
            "name them with --patient_column, --age_column, --sex_column"
        )
    values = pd.DataFrame(index=frame.index)
    if wanted["patient"]:
        values["patient"] = identifiers(frame[wanted["patient"]])
    if wanted["age"]:
        ages = [parse_age(str(age)) for age in quantities(frame[wanted["age"]])]
        values["age"] = np.array(ages, np.float32)
        _warn_of_unreadable(frame[wanted["age"]], values["age"].notna().to_numpy(), table.path)
    if wanted["sex"]:
        coding = table.sex_coding
        spelled = {normalised(name) for name in frame.columns}
        if coding is None and spelled.issuperset(_PTB_XL_COLUMNS):
            coding = "male0_female1"
        male = sexes(frame[wanted["sex"]], coding, source=table.path)
        values["sex"] = np.select([male == 1, male == 0], ["male", "female"], None)
        _warn_of_unreadable(frame[wanted["sex"]], ~np.isnan(male), table.path)
    rows = match_rows(records, frame, values, table.key_column, folder, table.path)
    found = rows >= 0
    for field in values:
        taken = values[field].to_numpy()[rows[found]]
        if field == "patient":
            known = records["patient"].to_numpy(object, copy=True)
            known[found] = np.where(pd.isna(known[found]), taken, known[found])
            records["patient"] = known
        else:
            column = records[field].to_numpy(copy=True)
            column[found] = taken
            records[field] = column
    return records, int(found.sum())


def join_risk(
    records: pd.DataFrame, table: RiskTable | None, folder: str
) -> tuple[pd.DataFrame, int]:
    """Adds risk (percent) and completeness (share), float32 with NaN, to each record.

    Returns:
        The records with these columns, and how many of them the table describes.
    """
    records = records.assign(risk=np.float32(np.nan), completeness=np.float32(np.nan))
    if table is None:
        return records, 0
    frame = read_table(table.path)
    source = table.path
    find_column(frame, (), table.key_column, source)
    risk = find_column(
        frame, RISK_COLUMNS, table.risk_column, source, required="the risk in percent"
    )
    share = find_column(frame, COMPLETENESS_COLUMNS, table.completeness_column, source)
    values = pd.DataFrame({"risk": _within(frame, risk, 100, "a percentage", source)})
    if share:
        values["completeness"] = _within(frame, share, 1, "a share", source)
    rows = match_rows(records, frame, values, table.key_column, folder, source)
    found = rows >= 0
    for field in values:
        column = records[field].to_numpy(copy=True)
        column[found] = values[field].to_numpy()[rows[found]]
        records[field] = column
    return records, int(found.sum())


def _within(frame, column, most, what, source) -> np.ndarray:
    """Returns a column's numbers, NaN where blank; what cannot be read is an error, not unknown."""
    given = frame[column]
    words = given.astype("string").str.strip()
    if most == 100:
        words = words.str.removesuffix("%")
    numbers = quantities(given if pd.api.types.is_numeric_dtype(given) else words)
    numbers = numbers.astype(np.float32)
    wrong = np.flatnonzero(
        (numbers < 0) | (numbers > most) | (np.isnan(numbers) & ~is_blank(given))
    )
    if len(wrong):
        raise TableError(
            f"{source}: column {column!r} holds {given.iloc[wrong[0]]!r} in row {wrong[0] + 1}"
            f"{f' and {len(wrong) - 1} more such values' if len(wrong) > 1 else ''}; expected "
            f"{what} from 0 to {most}, or nothing where it is unknown; correct the column"
        )
    return numbers


def _warn_of_unreadable(given: pd.Series, known: np.ndarray, source: str) -> None:
    """Says which ages or sexes become unknown although something stands there."""
    wrong = np.flatnonzero(~known & ~is_blank(given))
    if len(wrong):
        logging.warning(
            "%s: column %r: %d values are not understood and count as unknown, such as %r in row "
            "%d", source, given.name, len(wrong), given.iloc[wrong[0]], wrong[0] + 1,
        )  # fmt: skip
