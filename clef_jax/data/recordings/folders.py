"""What a folder holds: recordings, and files that hold signals or tables but cannot be read."""

import dataclasses
import os
from collections.abc import Iterator

from absl import logging

from clef_jax.data.recordings.formats import MATLAB, WFDB, format_of
from clef_jax.data.recordings.recording import Hints, may_pass
from clef_jax.data.recordings.wfdb import records_in
from clef_jax.files import open_regular

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


@dataclasses.dataclass(frozen=True)
class Found:
    """A recording in a folder that was searched.

    Attributes:
        path: As `open_recording` takes it; of a WFDB record without suffix.
        name: Its path below the folder, with forward slashes and without suffix. Two recordings
            share it where their files differ in nothing but the suffix.
    """

    path: str
    name: str


@dataclasses.dataclass(frozen=True)
class PassedOver:
    """A file in a folder that is not read.

    Attributes:
        path: The file.
        name: As of `Found`.
        reason: Why, and what to do about it.
        is_table: Whether it is no recording at all by its looks.
    """

    path: str
    name: str
    reason: str
    is_table: bool = False


def is_text(name: str) -> bool:
    """Tells whether a file's name can be written to a table."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def search_folder(
    folder: str | os.PathLike, hints: Hints | None = None
) -> tuple[list[Found], list[PassedOver]]:
    """Finds the recordings in a folder and below, and what may be one but is not read.

    The segments of a multi-segment record are not listed beside it. Folders that may not be entered
    are left out with a warning.

    Args:
        folder: Where to look.
        hints: With a sampling rate, files of formats that carry none count. With lead names, CSV
            and TSV files are recordings whatever their columns are called.

    Returns:
        The recordings and the files passed over, both sorted by their paths.

    Raises:
        OSError: A folder cannot be listed now, though it may be later.
    """
    folder, hints = os.fspath(folder), hints or Hints()
    found: list[Found] = []
    passed_over: list[PassedOver] = []
    for parent, _, files in os.walk(folder, onerror=_warn_or_raise):
        for one in _look_through(parent, files, folder, hints):
            if isinstance(one, Found):
                found.append(one)
            else:
                passed_over.append(one)
    return sorted(found, key=lambda f: f.path), sorted(passed_over, key=lambda f: f.path)


def _warn_or_raise(error: OSError) -> None:
    if may_pass(error):
        raise error
    logging.warning("Left out a folder that cannot be listed: %s", error)


def _look_through(
    parent: str, files: list[str], folder: str, hints: Hints
) -> Iterator[Found | PassedOver]:
    headers = {name.removesuffix(".hea") for name in files if name.endswith(".hea")}
    for record in records_in(parent, headers):
        path = os.path.join(parent, record)
        yield Found(path, _relative(path, folder))
    for file in files:
        stem, suffix = os.path.splitext(file)
        if stem in headers and suffix.lower() in (*WFDB.suffixes, *MATLAB.suffixes):
            continue
        path = os.path.join(parent, file)
        name = _relative(os.path.join(parent, stem), folder)
        if (judged := _judge(path, name, hints)) is not None:
            yield judged


def _relative(path: str, folder: str) -> str:
    return os.path.relpath(path, folder).replace(os.sep, "/")


def _judge(path: str, name: str, hints: Hints) -> Found | PassedOver | None:
    """Returns what a file is that belongs to no WFDB record; None where it may be anything."""
    found = format_of(path)
    if found is None or found is WFDB:
        suffix = os.path.splitext(path)[1].lower()
        if suffix not in _UNREADABLE or (suffix == ".xml" and not _holds_ecg_xml(path)):
            return None
        return PassedOver(path, name, f"{path}: not read: {_UNREADABLE[suffix]}")
    if found.needs_rate and hints.fs is None:
        return PassedOver(path, name, f"{path}: {found.unrated}") if found.unrated else None
    why = found.why_table(path) if found.why_table and not hints.lead_names else None
    if why is None:
        return Found(path, name)
    return PassedOver(
        path,
        name,
        f"{path}: skipped as a table, because {why}; if it is a recording, give --lead_names or "
        "name the file itself",
        is_table=True,
    )


def _holds_ecg_xml(path: str) -> bool:
    try:
        with open_regular(path) as stream:
            start = stream.read(4096)
    except OSError:
        return False
    return any(word in start for word in _ECG_XML)
