"""Recordings of any supported format: WFDB, EDF, DICOM waveforms, CSV, NPY and MATLAB.

Everything comes out as `readers.Recording`: millivolts, canonical lead names, NaN where samples are
missing. `open_recording` reads a header only; its `read` fetches any part of the signal, so that
long recordings stream.
"""

import dataclasses
import os
from collections.abc import Sequence

from clef_jax.data.recordings import wfdb
from clef_jax.data.recordings.arrays import open_array
from clef_jax.data.recordings.channels import why_no_ecg
from clef_jax.data.recordings.dicom import is_dicom, open_dicom
from clef_jax.data.recordings.edf import open_edf
from clef_jax.data.recordings.matlab import open_mat
from clef_jax.data.recordings.opened import OpenRecording, ecg_positions
from clef_jax.data.recordings.recording import Recording, RecordingError
from clef_jax.data.recordings.wfdb_header import read_header

EDF_SUFFIXES = (".edf", ".bdf")
DICOM_SUFFIXES = (".dcm", ".dicom")
ARRAY_SUFFIXES = (".csv", ".tsv", ".npy")
MATLAB_SUFFIX = ".mat"
_WFDB_SUFFIXES = ("", ".hea", ".dat", MATLAB_SUFFIX)


def is_array(path: str) -> bool:
    """Tells, by the name, whether a file carries samples alone: its rate has to be given."""
    return path.lower().endswith((*ARRAY_SUFFIXES, MATLAB_SUFFIX))


def _open_wfdb(path: str) -> OpenRecording:
    header = read_header(path)
    labels = [channel.label for channel in header.channels]
    reasons = why_no_ecg(labels, [channel.units for channel in header.channels])
    ecg, left_out = ecg_positions(header.path + ".hea", labels, reasons)

    def fetch(positions, start, stop):
        return wfdb.read_positions(header, [ecg[i] for i in positions], start, stop)

    leads = tuple(header.leads[i] for i in ecg)
    return OpenRecording(dataclasses.replace(header, leads=leads), fetch, left_out)


def open_recording(
    path: str | os.PathLike,
    *,
    fs: float | None = None,
    lead_names: Sequence[str] | None = None,
    units: str | None = None,
) -> OpenRecording:
    """Opens a recording of any supported format, told by the file's suffix.

    Args:
        path: A WFDB record (with or without .hea, .dat, .mat), .edf, .bdf, .dcm (or a DICOM file
            without suffix), .csv, .tsv, .npy, or .mat file without a .hea.
        fs: Sampling rate of CSV, TSV, NPY and headerless MATLAB files, Hz; other formats carry
            their own.
        lead_names: Names of the leads of such files, where they do not name them.
        units: Units of such files where they name none: mV, uV or V; mV by default.

    Raises:
        RecordingError: The file is missing, damaged, or of no supported format.
    """
    path = os.fspath(path)
    suffix = os.path.splitext(path)[1].lower()
    if suffix in ARRAY_SUFFIXES:
        return open_array(path, fs, lead_names, units)
    if suffix in EDF_SUFFIXES:
        return open_edf(path)
    if suffix in DICOM_SUFFIXES or (not suffix and is_dicom(path)):
        return open_dicom(path)
    if suffix == MATLAB_SUFFIX and not os.path.isfile(os.path.splitext(path)[0] + ".hea"):
        return open_mat(path, fs, lead_names, units)
    if suffix in _WFDB_SUFFIXES or os.path.isfile(path + ".hea"):
        return _open_wfdb(path)
    raise RecordingError(
        f"{path}: no supported format has the suffix {suffix!r}; expected a WFDB record, .edf, "
        ".bdf, .dcm, .csv, .tsv, .npy or .mat"
    )


def read(
    path: str | os.PathLike,
    *,
    leads: Sequence[str] | None = None,
    start: int = 0,
    stop: int | None = None,
    fs: float | None = None,
    lead_names: Sequence[str] | None = None,
    units: str | None = None,
) -> Recording:
    """Reads a recording of any format; arguments as of `open_recording` and its `read`."""
    recording = open_recording(path, fs=fs, lead_names=lead_names, units=units)
    return recording.read(leads=leads, start=start, stop=stop)
