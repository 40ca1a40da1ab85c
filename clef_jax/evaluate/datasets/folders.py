"""Where a dataset lies, and what of it is missing."""

import os
import pathlib
from collections.abc import Iterator, Sequence

from clef_jax.errors import ClefError
from clef_jax.evaluate.tasks.examples import first_few
from clef_jax.evaluate.tasks.task import TaskInfo

# The folder itself, one holding several datasets, versions within them, and what `wget -r` makes.
_PLACES = ("", "*", "*/[0-9]*.[0-9]*", "physionet.org/files/*/*", "*/physionet.org/files/*/*")
# Of more than this the download was cut short; of less some files may be lost.
MOST_ABSENT = 0.05


class DatasetError(ClefError):
    """A dataset that is not there, or not whole; the message says how to get it."""


def find_needs(
    root: str | os.PathLike, needs: Sequence[str], apart: Sequence[str] = ()
) -> dict[str, str]:
    """Finds what a task needs in a folder that is the dataset's or holds it.

    Args:
        root: The folder.
        needs: As of `Task`; the first tells the dataset's folder.
        apart: Those that may lie elsewhere below `root`.

    Returns:
        need -> path, of those that are there.
    """
    home = next((folder for folder in _folders(root) if _in(folder, needs[0])), None)
    paths = {}
    for need in needs:
        places = [home] if home else []
        if need in apart:
            places += _folders(root)
        found = filter(None, (_in(folder, need) for folder in places))
        if (path := next(found, None)) is not None:
            paths[need] = path
    return paths


def _folders(root: str | os.PathLike) -> Iterator[pathlib.Path]:
    for pattern in _PLACES:
        here = pathlib.Path(root)
        yield from sorted(p for p in here.glob(pattern) if p.is_dir()) if pattern else [here]


def _in(folder: pathlib.Path, need: str) -> str | None:
    for name in need.split(" or "):
        if (folder / name).exists():
            return str(folder / name)
    return None


def require_needs(
    info: TaskInfo, root: str | os.PathLike, needs: Sequence[str], apart: Sequence[str] = ()
) -> dict[str, str]:
    """Returns the paths of all that a task needs.

    Raises:
        DatasetError: Something is missing; it says what, where it was looked for, and how to get
            the dataset.
    """
    paths = find_needs(root, needs, apart)
    if absent := [need for need in needs if need not in paths]:
        raise DatasetError(
            f"{root}: {info.name} needs {', '.join(absent)}, which is neither here nor in a folder "
            f"below; {info.source} ({info.download}, {info.access}): {info.how_to_get}"
        )
    return paths


def recording_exists(path: str | os.PathLike) -> bool:
    """Tells whether a recording is there, of a WFDB record by its header."""
    return os.path.isfile(path) or os.path.isfile(f"{os.fspath(path)}.hea")


def require_files(what: str, root: str | os.PathLike, files: Sequence[str], remedy: str) -> None:
    """Raises DatasetError where more recordings are absent than may be by accident.

    Fewer stay among the examples, as whoever reads them tells each.

    Args:
        what: What message it is for.
        root: The folder that `files` are relative to.
        files: Recordings, with or without extension.
        remedy: How to get them.
    """
    absent = [file for file in files if not recording_exists(os.path.join(root, file))]
    if len(absent) > MOST_ABSENT * len(files):
        raise DatasetError(
            f"{what}: {len(absent):,} of {len(files):,} recordings are not in {root}, such as "
            f"{first_few(absent)}; {remedy}"
        )
