"""Checksums of a folder's files, kept beside them in the form that `sha256sum --check` reads."""

import hashlib
import os
import pathlib
import re
from collections.abc import Collection, Iterable

SUMS = "SHA256SUMS"

_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


def file_sha256(path: str | os.PathLike) -> str:
    """Returns the SHA-256 of a file, hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_sums(folder: pathlib.Path, paths: Iterable[pathlib.Path]) -> None:
    """Writes the checksums of those of `paths`, all within `folder`, that are files.

    It is no atomic write: call it while the folder has its temporary name.
    """
    files = sorted(path for path in paths if path.is_file())
    lines = [f"{file_sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def has_sums(folder: pathlib.Path) -> bool:
    """Tells whether checksums were written to a folder."""
    return (folder / SUMS).is_file()


def sum_faults(folder: pathlib.Path, *, skip: Collection[str] = ()) -> list[str]:
    """Compares the files of a folder with its checksums.

    Args:
        folder: A folder that `has_sums`.
        skip: Entries of the folder, files or folders, not to look at.

    Returns:
        One line for each file that is missing or differs. Empty where all is well.
    """
    faults = []
    # Exactly as written: a damaged line must not pass as another spelling of a whole one.
    for line in (folder / SUMS).read_bytes().decode(errors="replace").split("\n")[:-1]:
        found = _LINE.fullmatch(line)
        if found is None:
            return [f"{folder / SUMS}: damaged"]
        expected, name = found.groups()
        if name.split("/")[0] in skip:
            continue
        path = folder / name
        if not path.is_file():
            faults.append(f"{path}: listed in {SUMS}, but missing")
        elif file_sha256(path) != expected:
            faults.append(f"{path}: its content differs from its checksum in {SUMS}")
    return faults
