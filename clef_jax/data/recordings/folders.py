"""What a folder holds: recordings, and files that hold signals or tables but cannot be read."""

import dataclasses
import os
from collections.abc import Sequence

from clef_jax.data.recordings import wfdb
from clef_jax.data.recordings.columns import is_line_of_units, is_number, parse_title, split_cells
from clef_jax.data.recordings.dicom import is_dicom
from clef_jax.data.recordings.formats import (
    ARRAY_SUFFIXES,
    DICOM_SUFFIXES,
    EDF_SUFFIXES,
    MATLAB_SUFFIX,
)
from clef_jax.data.signals.leads import is_ecg, is_unnamed

_EXPORT = "export it as WFDB, EDF or DICOM, or each recording in mV as .npy and give --fs"
_UNREADABLE = {
    ".wav": f"a sound file does not say how many mV its numbers are; {_EXPORT}",
    ".hdf5": f"HDF5 has no layout of its own for ECGs; {_EXPORT} (CODE-15: 400 Hz)",
    ".scp": f"SCP-ECG is not supported; {_EXPORT}",
    ".ecg": f"ISHNE Holter files are not supported; {_EXPORT}",
    ".gdf": f"GDF is not supported; {_EXPORT}",
    ".acq": f"AcqKnowledge files are not supported; {_EXPORT}",
    ".xml": f"ECGs in XML are not supported; {_EXPORT}",
}
_UNREADABLE[".h5"] = _UNREADABLE[".hdf5"]
# Philips, HL7 aECG, GE Muse; other XML files are none of our business.
_ECG_XML = (b"restingecgdata", b"AnnotatedECG", b"RestingECG")
_BYTES_OF_A_TABLE = 65_536
_LINES_OF_A_TABLE = 20


@dataclasses.dataclass(frozen=True)
class PassedOver:
    """A file that is not read.

    Attributes:
        path: The file.
        reason: Why, and what to do about it.
        is_table: Whether it is no recording at all by its looks.
    """

    path: str
    reason: str
    is_table: bool = False


def _could_be_lead(name: str) -> bool:
    key = name.strip().lower()
    return (is_ecg(key) or is_unnamed(key)) and not key.endswith("id")


def why_table(path: str) -> str | None:
    """Returns why a CSV or TSV file is a table of something else than samples, None if it is not.

    Only its beginning is read: samples are numbers in columns that are leads by their names, where
    they have names.
    """
    try:
        with open(path, "rb") as stream:
            content = stream.read(_BYTES_OF_A_TABLE)
    except OSError:
        return None
    lines = content.decode("utf-8-sig", "replace").splitlines()
    if len(content) == _BYTES_OF_A_TABLE:  # the last line is cut
        lines = lines[:-1]
    rows = split_cells(path, lines[:_LINES_OF_A_TABLE])
    if not rows:
        return None
    named = not all(map(is_number, rows[0]))
    titles = [parse_title(cell) for cell in rows[0]]
    columns = [i for i, title in enumerate(titles) if not named or title.kind == "lead"]
    units = named and any(map(is_line_of_units, rows[1:2]))
    for row in rows[named + units :]:
        for i in columns:
            if i < len(row) and not is_number(row[i]):
                return f"it holds {row[i][:40]!r}, which is no sample"
    names = [titles[i].name for i in columns]
    if named and not any(map(_could_be_lead, names)):
        return f"none of its columns ({', '.join(names)[:200]}) is a lead by its name"
    return None


def _why_passed_over(
    path: str, suffix: str, arrays: bool, lead_names: Sequence[str] | None
) -> PassedOver | None:
    if suffix == MATLAB_SUFFIX and not arrays:
        return PassedOver(
            path,
            f"{path}: a MATLAB file without a .hea beside it, which would say its sampling rate; "
            "give that (--fs), or restore the header",
        )
    if arrays and suffix in (".csv", ".tsv") and not lead_names and (why := why_table(path)):
        return PassedOver(
            path,
            f"{path}: skipped as a table, because {why}; if it is a recording, give --lead_names "
            "or name the file itself",
            is_table=True,
        )
    if suffix not in _UNREADABLE:
        return None
    if suffix == ".xml":
        try:
            with open(path, "rb") as stream:
                start = stream.read(4096)
        except OSError:
            return None
        if not any(word in start for word in _ECG_XML):
            return None
    return PassedOver(path, f"{path}: not read: {_UNREADABLE[suffix]}")


def search_folder(
    folder: str | os.PathLike, *, arrays: bool = False, lead_names: Sequence[str] | None = None
) -> tuple[list[str], list[PassedOver]]:
    """Finds the recordings in a folder and below, and what may be one but is not read.

    Args:
        folder: Where to look.
        arrays: Whether CSV, TSV, NPY and headerless MATLAB files count, which carry no rate.
        lead_names: Names given for the leads of such files; then CSV and TSV files are recordings
            whatever their columns are called.

    Returns:
        The paths of the recordings, sorted, and the files passed over, in no less order.
    """
    found, passed_over = wfdb.find_recordings(folder), []
    readable = EDF_SUFFIXES + DICOM_SUFFIXES + ((*ARRAY_SUFFIXES, MATLAB_SUFFIX) if arrays else ())
    for parent, _, files in os.walk(os.fspath(folder)):
        names = set(files)
        for name in files:
            path = os.path.join(parent, name)
            stem, suffix = os.path.splitext(name)
            suffix = suffix.lower()
            if suffix == MATLAB_SUFFIX and stem + ".hea" in names:
                continue
            if why := _why_passed_over(path, suffix, arrays, lead_names):
                passed_over.append(why)
            elif suffix in readable or (not suffix and is_dicom(path)):
                found.append(path)
    return sorted(found), sorted(passed_over, key=lambda file: file.path)
