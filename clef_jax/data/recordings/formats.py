"""The formats that recordings are read from, and the one way to open a recording of any of them.

Everything comes out as a `Recording`: millivolts, canonical lead names, NaN where samples are
missing. `open_recording` reads a header only; its `read` fetches any part of the signal, so that
long recordings stream.
"""

import dataclasses
import os
from collections.abc import Callable, Sequence

from clef_jax.data.recordings.arrays import open_array
from clef_jax.data.recordings.columns import why_table
from clef_jax.data.recordings.dicom import is_dicom, open_dicom
from clef_jax.data.recordings.edf import open_edf
from clef_jax.data.recordings.matlab import WITHOUT_RATE, open_mat
from clef_jax.data.recordings.opened import OpenRecording
from clef_jax.data.recordings.recording import (
    Hints,
    Recording,
    RecordingError,
    RecordingUnavailable,
)
from clef_jax.data.recordings.wfdb import open_wfdb
from clef_jax.reads import in_time, with_retries


@dataclasses.dataclass(frozen=True)
class Format:
    """A file format of recordings.

    Attributes:
        name: What it is called.
        suffixes: Of its files, in lower case.
        open: (path, hints) -> the recording; raises `RecordingError`.
        needs_rate: Whether its files carry no sampling rate, so that one must be given.
        unrated: What is said of such a file in a folder when none is given; None for nothing, as
            files of the format may be anything.
        sniff: Tells its files among those without suffix, by their beginning.
        why_table: Says why a file with its suffix is a table of something else than samples.
    """

    name: str
    suffixes: tuple[str, ...]
    open: Callable[[str, Hints], OpenRecording]
    needs_rate: bool = False
    unrated: str | None = None
    sniff: Callable[[str], bool] | None = None
    why_table: Callable[[str], str | None] | None = None


# The only format of records that consist of several files, and are named without suffix.
WFDB = Format("WFDB", (".hea", ".dat"), open_wfdb)
MATLAB = Format("MATLAB", (".mat",), open_mat, needs_rate=True, unrated=WITHOUT_RATE)
FORMATS = (
    WFDB,
    Format("EDF", (".edf", ".bdf"), open_edf),
    Format("DICOM", (".dcm", ".dicom"), open_dicom, sniff=is_dicom),
    Format("CSV", (".csv",), open_array, needs_rate=True, why_table=why_table),
    Format("TSV", (".tsv",), open_array, needs_rate=True, why_table=why_table),
    Format("NPY", (".npy",), open_array, needs_rate=True),
    MATLAB,
)


def format_of(path: str) -> Format | None:
    """Returns the format of a recording by its name, and by its beginning where that has no suffix.

    None where no format has the suffix. What is beside the file matters for WFDB: it has no
    suffixes of its own but that of the header.
    """
    stem, suffix = os.path.splitext(path)
    suffix = suffix.lower()
    if suffix in MATLAB.suffixes and os.path.isfile(stem + ".hea"):
        return WFDB
    for candidate in FORMATS:
        if suffix in candidate.suffixes:
            return candidate
        if not suffix and candidate.sniff and candidate.sniff(path):
            return candidate
    return WFDB if not suffix or os.path.isfile(path + ".hea") else None


def needs_rate(path: str) -> bool:
    """Tells, by the name, whether a file carries samples alone: its rate has to be given."""
    return any(f.needs_rate and path.lower().endswith(f.suffixes) for f in FORMATS)


def without_suffix(path: str) -> str:
    """Returns a path without the suffix of a format; other dots are part of the name.

    >>> without_suffix("a/rec.v2.EDF"), without_suffix("a/rec.v2")
    ('a/rec.v2', 'a/rec.v2')
    """
    stem, suffix = os.path.splitext(path)
    suffix = suffix.lower()
    return stem if suffix and any(suffix in f.suffixes for f in FORMATS) else path


def expected_files() -> str:
    """Returns what is expected in a folder, for messages."""
    rated = [f.name for f in FORMATS if not f.needs_rate]
    unrated = [f.name for f in FORMATS if f.needs_rate]
    return (
        f"expected {_listed(rated, 'or')} files; {_listed(unrated, 'and')} files count if --fs "
        "gives their rate"
    )


def _listed(names: Sequence[str], word: str) -> str:
    return f"{', '.join(names[:-1])} {word} {names[-1]}"


def open_hinted(path: str | os.PathLike, hints: Hints) -> OpenRecording:
    """Opens a recording as `open_recording` does."""
    path = os.fspath(path)
    return in_time(lambda: _open(path, hints), RecordingUnavailable, lambda: path)


def _open(path: str, hints: Hints) -> OpenRecording:
    found = format_of(path)
    if found is None:
        suffixes = [suffix for f in FORMATS[1:] for suffix in f.suffixes]
        raise RecordingError(
            f"{path}: no supported format has the suffix {os.path.splitext(path)[1].lower()!r}; "
            f"expected a WFDB record, {_listed(suffixes, 'or')}"
        )
    if found.needs_rate and hints.fs is None:
        raise RecordingError(
            f"{path}: {found.unrated or 'this format carries no sampling rate; give it (--fs)'}"
        )
    return with_retries(lambda: found.open(path, hints), RecordingUnavailable)


def open_recording(
    path: str | os.PathLike,
    *,
    fs: float | None = None,
    lead_names: Sequence[str] | None = None,
    units: str | None = None,
    adu_per_mv: float | None = None,
) -> OpenRecording:
    """Opens a recording of any supported format, told by the file's suffix.

    Its leads are the channels that are ECGs; the others are its `left_out`.

    Args:
        path: A WFDB record (with or without .hea, .dat, .mat), .edf, .bdf, .dcm (or a DICOM file
            without suffix), .csv, .tsv, .npy, or .mat file without a .hea.
        fs: Sampling rate of CSV, TSV, NPY and headerless MATLAB files, Hz; other formats carry
            their own.
        lead_names: Names of the leads of such files, where they do not name them.
        units: Units of such files where they name none: mV, uV or V; mV by default.
        adu_per_mv: Digital units per mV of a WFDB record, in place of its header's gains and
            baselines. LUDB (1000) needs it: its headers stretch every lead to 1 mV peak to peak.

    Raises:
        RecordingError: The file is missing, damaged, or of no supported format, or no channel is an
            ECG; `RecordingUnavailable` where reading it again may go well.

    Example:
        >>> recording = open_recording("ecg.hea")
        >>> recording.header.leads, recording.header.fs, recording.header.samples
        (('I', 'II'), 250.0, 6250)
        >>> recording.read(leads=["II"], start=250, stop=500).signal_mv.shape
        (1, 250)
    """
    names = None if lead_names is None else tuple(lead_names)
    return open_hinted(path, Hints(fs, names, units, adu_per_mv))


def read_recording(
    path: str | os.PathLike,
    *,
    leads: Sequence[str] | None = None,
    start: int = 0,
    stop: int | None = None,
    fs: float | None = None,
    lead_names: Sequence[str] | None = None,
    units: str | None = None,
    adu_per_mv: float | None = None,
) -> Recording:
    """Reads a recording of any format; arguments and errors of `open_recording` and its `read`.

    Example:
        >>> recording = read_recording("ecg.hea")
        >>> recording.leads, recording.signal_mv.shape
        (('I', 'II'), (2, 6250))
    """
    recording = open_recording(
        path, fs=fs, lead_names=lead_names, units=units, adu_per_mv=adu_per_mv
    )
    return recording.read(leads=leads, start=start, stop=stop)
