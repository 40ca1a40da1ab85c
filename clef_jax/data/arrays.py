"""Recordings as plain arrays: CSV, TSV and NPY files, and arrays in memory."""

import functools
import os
import re
from collections.abc import Sequence

import numpy as np

from clef_jax.data.channels import why_no_ecg
from clef_jax.data.leads import STANDARD_LEADS, name_leads
from clef_jax.data.opened import OpenRecording, ecg_positions, make_header
from clef_jax.data.readers import RecordingError

TIME_COLUMNS = ("time", "t", "seconds", "timestamp", "sample", "index", "")


def _read_table(path: str) -> tuple[np.ndarray, list[str] | None]:
    """Returns float64 [leads, samples] of a CSV or TSV and its lead names, if it has a header."""
    import pandas as pd

    separator = "\t" if path.lower().endswith(".tsv") else ","
    try:
        with open(path, encoding="utf-8-sig") as stream:
            first = stream.readline().strip().split(separator)
        named = not all(re.fullmatch(r"\s*[-+.\deE]*|\s*nan\s*", cell, re.I) for cell in first)
        table = pd.read_csv(path, sep=separator, header=0 if named else None, encoding="utf-8-sig")
        if named:
            table = table[[c for c in table if str(c).strip().lower() not in TIME_COLUMNS]]
        signal = table.to_numpy(np.float64).T
    except (ValueError, UnicodeDecodeError) as error:
        raise RecordingError(
            f"{path}: not a table of samples ({error}); expected one column for each lead, "
            "in mV, with the leads' names in the first line"
        ) from error
    return signal, [str(name) for name in table.columns] if named else None


def _read_npy(path: str) -> np.ndarray:
    """Returns [leads, samples], still on disk."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise RecordingError(
            f"{path}: not a plain .npy array ({error}); write it with numpy.save, of a numeric type"
        ) from error
    if array.dtype.kind not in "fiu" or array.ndim not in (1, 2):
        raise RecordingError(
            f"{path}: array {array.shape} of {array.dtype}; expected numbers in mV, [samples] or "
            "[leads, samples]"
        )
    array = array[None] if array.ndim == 1 else array
    # No ECG has more leads than samples, so the longer axis is time.
    return array if array.shape[0] <= array.shape[1] else array.T


@functools.lru_cache(maxsize=1)
def _read_array(path: str, modified_ns: int) -> tuple[np.ndarray, list[str] | None]:
    """Caches the last array file, of which a long recording is read window by window."""
    return (_read_npy(path), None) if path.lower().endswith(".npy") else _read_table(path)


def open_array(path: str, fs: float | None, lead_names: Sequence[str] | None) -> OpenRecording:
    """Opens a CSV, TSV or NPY file of millivolts; the caller gives its rate and may name leads."""
    if fs is None:
        raise RecordingError(f"{path}: this format carries no sampling rate; give it (--fs)")
    try:
        signal_mv, names = _read_array(path, os.stat(path).st_mtime_ns)
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror})") from error
    if lead_names is not None:
        names = list(lead_names)
    elif names is None:
        names = ["ECG"] if len(signal_mv) == 1 else [f"signal {i}" for i in range(len(signal_mv))]
    if len(names) != len(signal_mv):
        raise RecordingError(
            f"{path}: {len(signal_mv)} leads, but {len(names)} lead names were given "
            f"({', '.join(names)}); give one name for each"
        )
    ecg, left_out = ecg_positions(path, names, why_no_ecg(names, ["mV"] * len(names)))
    leads = name_leads(names)
    header = make_header(path, fs, [leads[i] for i in ecg], signal_mv.shape[1])

    def fetch(positions, start, stop):
        return np.array(signal_mv[[ecg[i] for i in positions], start:stop], np.float64)

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
    if not fs > 0:
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
