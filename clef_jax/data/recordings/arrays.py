"""Recordings as plain arrays: CSV, TSV and NPY files, and arrays in memory."""

import csv
import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np

from clef_jax.data.recordings.channels import MOST_CHANNELS, MV_PER_UNIT, why_no_ecg
from clef_jax.data.recordings.columns import (
    Column,
    check_times,
    is_line_of_units,
    is_number,
    parse_title,
    separator_of,
    split_cells,
)
from clef_jax.data.recordings.opened import OpenRecording, ecg_positions, make_header
from clef_jax.data.recordings.recording import Hints, RecordingError, unreadable
from clef_jax.data.recordings.units import mv_per_unit, unit_doubt
from clef_jax.data.signals.leads import STANDARD_LEADS, name_leads
from clef_jax.files import stat_regular

_LONGEST_LINE = 1 << 17


@dataclasses.dataclass(frozen=True)
class Samples:
    """The samples of a file, and what it says of them.

    Attributes:
        samples: [leads, samples], in the file's units.
        columns: What is known of each lead; None where the file names none.
        times: The time column and its title, if there is one.
    """

    samples: np.ndarray
    columns: tuple[Column, ...] | None = None
    times: tuple[Column, np.ndarray] | None = None


def _read_table(path: str) -> Samples:
    """Reads a CSV or TSV, with or without a line of titles, and a line of units below it."""
    import pandas as pd

    try:
        with open(path, encoding="utf-8-sig") as stream:
            lines = [stream.readline(_LONGEST_LINE + 1) for _ in range(2)]
        if max(map(len, lines)) > _LONGEST_LINE:
            raise ValueError(f"a line of more than {_LONGEST_LINE:,} characters")
        titles, below = split_cells(path, lines)
        named = not all(map(is_number, titles))
        # PhysioNet's tools write 'Elapsed time','MLII' and below it 'hh:mm:ss.mmm','mV'.
        units = below if is_line_of_units(below) else None
        table = pd.read_csv(
            path,
            sep=separator_of(path),
            header=None,
            skiprows=named + (units is not None),
            encoding="utf-8-sig",
        )
        if not named:
            return Samples(table.to_numpy(np.float64).T)
        if len(titles) != table.shape[1]:
            raise ValueError(f"{len(titles)} titles for {table.shape[1]} columns")
        columns = [parse_title(title) for title in titles]
        if units:
            columns = [
                dataclasses.replace(column, unit=unit) if column.kind == "lead" and unit else column
                for column, unit in zip(columns, units, strict=True)
            ]
        leads = [i for i, column in enumerate(columns) if column.kind == "lead"]
        times = None
        for i, column in enumerate(columns):
            if column.kind == "time" and pd.api.types.is_numeric_dtype(table.dtypes.iloc[i]):
                times = (column, table.iloc[:, i].to_numpy(np.float64))
        samples = table.iloc[:, leads].to_numpy(np.float64).T
    except (ValueError, ArithmeticError, csv.Error) as error:
        between = {",": "commas", "\t": "tabs"}[separator_of(path)]
        raise RecordingError(
            f"{path}: not a table of samples ({error}); expected one column for each lead, with "
            f"{between} between them, and the leads' names in the first line"
        ) from error
    return Samples(samples, tuple(columns[i] for i in leads), times)


def _read_npy(path: str) -> np.ndarray:
    """Returns [leads, samples], still on disk."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # numpy raises whatever a header that lies makes it run into
        raise RecordingError(
            f"{path}: not a plain .npy array ({error}); write it with numpy.save, of a numeric type"
        ) from error
    if array.dtype.kind not in "fiu" or array.ndim not in (1, 2):
        raise RecordingError(
            f"{path}: array {array.shape} of {array.dtype}; expected numbers, [samples] or "
            "[leads, samples]"
        )
    return leads_first(array[None] if array.ndim == 1 else array)


def leads_first(array: np.ndarray) -> np.ndarray:
    """Returns a recording as [leads, samples]: no ECG has more leads than samples."""
    return array if array.shape[0] <= array.shape[1] else array.T


@functools.lru_cache(maxsize=1)
def _read_array(path: str, modified_ns: int) -> Samples:
    """Caches the last array file, of which a long recording is read window by window."""
    return Samples(_read_npy(path)) if path.lower().endswith(".npy") else _read_table(path)


def _units_of_leads(path: str, array: Samples, units: str | None) -> list[str | None]:
    """Returns each lead's unit, as its title or the caller says; None where neither does."""
    titled: list[str | None] = [None] * len(array.samples)
    if array.columns is not None:
        titled = [column.unit for column in array.columns]
    given = mv_per_unit(units) if units else None
    for unit in titled:
        if unit and given and MV_PER_UNIT.get(unit.lower(), given) != given:
            raise RecordingError(
                f"{path}: its columns are in {unit} by their titles, but {units} was given "
                "(--units); correct the one that is wrong"
            )
    return [unit or units for unit in titled]


def _rate(hints: Hints) -> float:
    """Returns the rate, which is asked for before a format that needs one is opened."""
    assert hints.fs is not None
    return hints.fs


def open_array(path: str, hints: Hints) -> OpenRecording:
    """Opens a CSV, TSV or NPY file; arguments and errors as of `open_samples`."""
    try:
        array = _read_array(path, stat_regular(path).st_mtime_ns)
    except OSError as error:
        raise unreadable(f"{path}:", error, "copy it again") from error
    if array.times is not None:
        check_times(path, *array.times, _rate(hints))
    return open_samples(path, array, hints)


def open_samples(path: str, array: Samples, hints: Hints, **about) -> OpenRecording:
    """Opens the samples of a file that says little of them.

    Args:
        path: The file.
        array: Its content.
        hints: Its sampling rate; names for its leads, in place of its own; the unit of its samples
            where its titles name none.
        **about: What is known of the patient, fields of `Header`.

    Raises:
        RecordingError: The names do not fit, no lead is an ECG, or, when samples are read, they
            cannot be in mV and no unit was given.
    """
    samples, fs = array.samples, _rate(hints)
    if hints.lead_names is not None:
        names = list(hints.lead_names)
    elif array.columns is not None:
        names = [column.name for column in array.columns]
    else:
        names = ["ECG"] if len(samples) == 1 else [f"signal {i}" for i in range(len(samples))]
    if len(samples) > MOST_CHANNELS:
        raise RecordingError(
            f"{path}: {len(samples)} leads; expected at most {MOST_CHANNELS}; give each recording "
            "a file of its own"
        )
    if len(names) != len(samples):
        raise RecordingError(
            f"{path}: {len(samples)} leads, but {len(names)} lead names were given "
            f"({', '.join(names)}); give one name for each"
        )
    unit_of = _units_of_leads(path, array, hints.units)
    reasons = why_no_ecg(names, [unit or "mV" for unit in unit_of])
    ecg, left_out = ecg_positions(path, names, reasons)
    leads = name_leads(names)
    header = make_header(path, fs, [leads[i] for i in ecg], samples.shape[1], **about)
    doubt_of = functools.cache(lambda row: unit_doubt(samples[row], fs))

    def fetch(positions, start, stop):
        rows = [ecg[i] for i in positions]
        for row in rows:
            if unit_of[row] is None and (doubt := doubt_of(row)):
                raise RecordingError(
                    f"{path}: lead {names[row]}: {doubt}; expected mV, of which an ECG spans 0.1 "
                    "to 10; say which unit it is (--units uV, V; mV if it is mV after all), or "
                    "divide counts by the recorder's counts per mV"
                )
        signal_mv = np.array(samples[rows, start:stop], np.float64)
        factors = [mv_per_unit(unit_of[row] or "mV") for row in rows]
        return signal_mv * np.array(factors)[:, None]

    return OpenRecording(header, fetch, left_out)


def array_recording(
    signal_mv: np.ndarray,
    fs: float,
    lead: str | Sequence[str] | None,
    leads: Sequence[str] | None,
) -> OpenRecording:
    """Returns an array in memory as an open recording.

    Args:
        signal_mv: [samples] or [leads, samples], mV.
        fs: Sampling rate, Hz.
        lead: The lead wanted of it, which names the row of a signal of one.
        leads: Names of the rows; the 12 standard leads by default where there are 12.

    Raises:
        ValueError: The array is no signal, or its rows have no names.
    """
    if signal_mv.ndim not in (1, 2) or signal_mv.dtype.kind not in "fiu":
        raise ValueError(
            f"signal of shape {signal_mv.shape} and type {signal_mv.dtype}; expected numbers in "
            "mV, [samples] or [leads, samples]"
        )
    if not 0 < fs < math.inf:
        raise ValueError(f"fs is {fs}; expected the sampling rate in Hz")
    rows = np.atleast_2d(signal_mv)
    if leads is None and len(rows) == 1:
        # A single row is whatever lead the caller says it is.
        leads = [lead if isinstance(lead, str) else "ECG"]
    elif leads is None and len(rows) == len(STANDARD_LEADS):
        leads = STANDARD_LEADS
    if leads is None or len(leads) != len(rows):
        given = "none" if leads is None else ", ".join(leads)
        raise ValueError(
            f"signal of {len(rows)} rows; expected the name of each in `leads`, found {given}"
        )
    header = make_header("signal", fs, name_leads(leads), rows.shape[1])
    return OpenRecording(
        header, lambda at, start, stop: np.asarray(rows[list(at), start:stop], np.float64)
    )
