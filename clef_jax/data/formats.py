"""Recordings of any supported format: WFDB, EDF, DICOM waveforms, CSV and NPY.

Everything comes out as `readers.Recording`: millivolts, canonical lead names, NaN where samples are
missing. `open_recording` reads a header only; its `read` fetches any part of the signal, so that
long recordings stream.
"""

import os
from collections.abc import Sequence

from clef_jax.data import readers
from clef_jax.data.arrays import open_array
from clef_jax.data.dicom import is_dicom, open_dicom
from clef_jax.data.edf import open_edf
from clef_jax.data.opened import OpenRecording
from clef_jax.data.readers import Recording, RecordingError

_WFDB_SUFFIXES = ("", ".hea", ".dat", ".mat")
_EDF_SUFFIXES = (".edf", ".bdf")
_DICOM_SUFFIXES = (".dcm", ".dicom")
_ARRAY_SUFFIXES = (".csv", ".tsv", ".npy")


def is_array(path: str) -> bool:
    """Tells, by the name, whether a file carries samples alone: its rate has to be given."""
    return path.lower().endswith(_ARRAY_SUFFIXES)


def _open_wfdb(path: str) -> OpenRecording:
    header = readers.read_header(path)

    def fetch(positions, start, stop):
        names = [header.leads[i] for i in positions]
        return readers.read_signal(header, leads=names, start=start, stop=stop).signal_mv

    return OpenRecording(header, fetch)


def open_recording(
    path: str | os.PathLike,
    *,
    fs: float | None = None,
    lead_names: Sequence[str] | None = None,
) -> OpenRecording:
    """Opens a recording of any supported format, told by the file's suffix.

    Args:
        path: A WFDB record (with or without .hea, .dat, .mat), .edf, .bdf, .dcm (or a DICOM file
            without suffix), .csv, .tsv or .npy file.
        fs: Sampling rate of CSV, TSV and NPY files, Hz; other formats carry their own.
        lead_names: Names of the leads of CSV, TSV and NPY files without a line of names.

    Raises:
        RecordingError: The file is missing, damaged, or of no supported format.
    """
    path = os.fspath(path)
    suffix = os.path.splitext(path)[1].lower()
    if suffix in _ARRAY_SUFFIXES:
        return open_array(path, fs, lead_names)
    if suffix in _EDF_SUFFIXES:
        return open_edf(path)
    if suffix in _DICOM_SUFFIXES or (not suffix and is_dicom(path)):
        return open_dicom(path)
    if suffix in _WFDB_SUFFIXES or os.path.isfile(path + ".hea"):
        return _open_wfdb(path)
    raise RecordingError(
        f"{path}: no supported format has the suffix {suffix!r}; expected a WFDB record, .edf, "
        ".bdf, .dcm, .csv, .tsv or .npy"
    )


def read(
    path: str | os.PathLike,
    *,
    leads: Sequence[str] | None = None,
    start: int = 0,
    stop: int | None = None,
    fs: float | None = None,
    lead_names: Sequence[str] | None = None,
) -> Recording:
    """Reads a recording of any format; arguments as of `open_recording` and its `read`."""
    return open_recording(path, fs=fs, lead_names=lead_names).read(
        leads=leads, start=start, stop=stop
    )


def find_files(folder: str | os.PathLike, *, arrays: bool = False) -> list[str]:
    """Returns the paths of all recordings in a folder and below, sorted.

    Args:
        folder: Where to look.
        arrays: Whether CSV, TSV and NPY files count, which may as well be tables of something else.
    """
    suffixes = _EDF_SUFFIXES + _DICOM_SUFFIXES + (_ARRAY_SUFFIXES if arrays else ())
    found = readers.find_recordings(folder)
    for parent, _, files in os.walk(folder):
        for name in files:
            path = os.path.join(parent, name)
            suffix = os.path.splitext(name)[1].lower()
            if suffix in suffixes or (not suffix and is_dicom(path)):
                found.append(path)
    return sorted(found)
