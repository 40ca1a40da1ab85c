"""Records joined with what tables say: when shards are written, and when a run starts."""

import dataclasses
import functools
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from absl import logging

from clef_jax.data.annotations.annotations import AnnotationError, Annotations
from clef_jax.data.annotations.splits import split_by_hash, split_by_words
from clef_jax.data.annotations.values import (
    AGE_COLUMNS,
    COMPLETENESS_COLUMNS,
    RISK_COLUMNS,
    SEX_COLUMNS,
    SPLIT_COLUMNS,
    ages,
    males,
    numbers_or_text,
    percentages,
    shares,
)
from clef_jax.data.recordings.formats import without_suffix
from clef_jax.tables.columns import TableError, find_column
from clef_jax.tables.files import read_table
from clef_jax.tables.matching import PATIENT_COLUMNS, identifiers, match_rows

_match_rows = functools.partial(match_rows, without_suffix=without_suffix)


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
        values["age"] = ages(frame[wanted["age"]], table.path)
    if wanted["sex"]:
        male = males(frame, wanted["sex"], table.sex_coding, table.path)
        values["sex"] = [{1: "male", 0: "female"}.get(one) for one in male]
    rows = _match_rows(records, frame, values, table.key_column, folder, table.path)
    found = rows >= 0
    for field in values:
        taken = values[field].to_numpy()[rows[found]]
        column = records[field].to_numpy(object if field == "patient" else None, copy=True)
        if field == "patient":
            taken = np.where(pd.isna(column[found]), taken, column[found])
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
    values = pd.DataFrame({"risk": percentages(frame[risk], source)})
    if share:
        values["completeness"] = shares(frame[share], source)
    rows = _match_rows(records, frame, values, table.key_column, folder, source)
    found = rows >= 0
    for field in values:
        column = records[field].to_numpy(copy=True)
        column[found] = values[field].to_numpy()[rows[found]]
        records[field] = column
    return records, int(found.sum())


def table_paths(setting: str) -> list[str]:
    """Returns the paths of `config.annotations`, which commas separate."""
    return [path.strip() for path in setting.split(",") if path.strip()]


def annotate(
    default: Annotations,
    rows: pd.DataFrame,
    tables: Sequence[str] = (),
    *,
    needed: Collection[str] = (),
    welcome: Collection[str] = (),
    validation_fraction: float | None = None,
) -> Annotations:
    """Returns the annotations of a run: a shard set's own, and over them those of more tables.

    A table's keys and columns bear the usual names. A column that it has is taken as a whole, so
    that risks of two origins never mix: records that it does not describe become unknown, and so
    does the completeness of all where it has risks alone. Of several tables the last that has a
    column counts. A column split says train or validation.

    Args:
        default: The set's own annotations.
        rows: record, patient and study of each row of its index.
        tables: Files of any kind that `tables.files.read_table` reads, keyed by record, study or
            patient.
        needed: Columns that must be there; those besides risk, completeness, age and sex are taken
            from the tables under their own names.
        welcome: Columns that are taken likewise, but may be absent.
        validation_fraction: Holds out this share of the patients, by a hash of each, whatever set
            and tables say.

    Raises:
        TableError: A table does not fit, or splits a patient.
        AnnotationError: A column is needed that neither set nor tables have.
    """
    columns, is_validation = dict(default.columns), default.is_validation
    further = sorted({*needed, *welcome} - default.columns.keys())
    for path, values in _read_tables(rows, tables, further):
        if "risk" in values:
            # That of other risks says nothing of these.
            columns["completeness"] = np.full(len(rows), np.nan, np.float32)
        columns |= values
        if "split" in columns:
            words = columns.pop("split")
            if validation_fraction is None:
                record, patient = rows["record"].to_numpy(object), rows["patient"].to_numpy(object)
                is_validation = split_by_words(words, record, patient, path)
    if validation_fraction is not None:
        is_validation = split_by_hash(rows["patient"].to_numpy(object), validation_fraction)
    _require(columns, needed)
    return Annotations(columns, is_validation)


def _read_tables(
    rows: pd.DataFrame, tables: Sequence[str], further: Sequence[str]
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Yields each table's path and the columns to take of it, with a value for each row."""
    if not tables:
        return
    of_row, names = pd.factorize(rows["record"])  # A long record has several rows.
    records = rows.drop_duplicates("record").reset_index(drop=True)
    for path in tables:
        frame = read_table(path)
        values = _wanted(frame, further, path)
        found = _match_rows(records, frame, pd.DataFrame(values), None, None, path)
        logging.info("%s: describes %d of %d records", path, np.sum(found >= 0), len(names))
        for name, known in values.items():
            # Row -1, which a record has that the table lacks, is the last one.
            unknown = np.full(1, None if known.dtype == object else np.nan, known.dtype)
            values[name] = np.concatenate([known, unknown])[found[of_row]]
        yield path, values


def _wanted(frame: pd.DataFrame, further: Sequence[str], source: str) -> dict[str, np.ndarray]:
    """Returns the columns to take of a table: those of usual names, and the further ones."""
    values = {}
    for name, usual, read in (
        ("risk", RISK_COLUMNS, percentages),
        ("completeness", COMPLETENESS_COLUMNS, shares),
        ("age", AGE_COLUMNS, ages),
    ):
        if column := find_column(frame, usual, None, source):
            values[name] = read(frame[column], source)
    if column := find_column(frame, SEX_COLUMNS, None, source):
        values["male"] = males(frame, column, None, source)
    if column := find_column(frame, SPLIT_COLUMNS, None, source):
        values["split"] = identifiers(frame[column])
    for name in further:
        if name in frame.columns:
            values[name] = numbers_or_text(frame[name])
    if not values:
        raise TableError(
            f"{source}: no column to take; found {', '.join(frame.columns)}; expected "
            f"{', '.join(['risk, completeness, age, sex, split', *further])}"
        )
    return values


def _require(columns: Mapping[str, np.ndarray], needed: Collection[str]) -> None:
    """Raises AnnotationError for a needed column that is absent, and warns of one that is empty."""
    for name in sorted(needed):
        if name not in columns:
            raise AnnotationError(
                f"column {name!r} is needed, and neither the shards nor config.annotations have "
                f"it; found {', '.join(sorted(columns))}; add a table that has it"
            )
        if pd.isna(columns[name]).all():
            logging.warning("column %r is needed, and no record's value is known", name)
