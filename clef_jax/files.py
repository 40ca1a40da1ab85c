"""Files and folders: whole or not at all, with checksums, and one process at a time."""

import contextlib
import datetime
import errno
import hashlib
import json
import os
import pathlib
import re
import shutil
import socket
import stat
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, BinaryIO

import filelock

from clef_jax import stores
from clef_jax.errors import ClefError


def move_into_place(temporary: str | os.PathLike, path: str | os.PathLike) -> None:
    """Renames a file to `path`, replacing what is there, once its content is on the disk.

    After a power failure `path` holds the old content or the new, whole. Which of them is left to
    the file system: to wait for the folder as well is no part of what readers rely on, and Windows
    cannot.
    """
    with open(temporary, "rb") as stream:
        os.fsync(stream.fileno())
    os.replace(temporary, path)


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[str]:
    """Gives a temporary name for a file, which is moved to `path`, or put there, after the block.

    If the block raises, the file is removed and `path` stays as it was.
    """
    if stores.is_stored(path):
        with stores.putting(path) as temporary:
            yield temporary
        return
    temporary = f"{os.fspath(path)}.{socket.gethostname()}.{os.getpid()}.tmp"
    try:
        yield temporary
        move_into_place(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


@contextlib.contextmanager
def replacing_folder(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Gives a temporary name for a folder, which is moved to `path` after the block.

    `path` must not exist, or be an empty folder. If the block raises, the folder is removed; what a
    killed process left of it, by the next that writes the same. Its files are not waited for, which
    takes minutes where there are thousands: a folder that must stand a power failure has checksums.
    """
    stores.require_local(path)
    temporary = pathlib.Path(f"{os.fspath(path)}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def stat_regular(path: str | os.PathLike) -> os.stat_result:
    """Returns the status of a regular file, or of a folder, which nobody can read by mistake.

    To open a pipe waits for whoever writes to it, and a device may have no end.

    Raises:
        OSError: There is nothing, or something else.
    """
    found = os.stat(path)
    if kind := _KINDS.get(stat.S_IFMT(found.st_mode)):
        raise OSError(errno.EINVAL, f"it is {kind}, expected a file", os.fspath(path))
    return found


def open_regular(path: str | os.PathLike) -> BinaryIO:
    """Opens a file for reading bytes; errors of `stat_regular`."""
    stat_regular(path)
    return open(path, "rb")


def set_aside(path: pathlib.Path) -> pathlib.Path:
    """Renames a damaged folder, in the place of one set aside before, and returns its new name."""
    aside = path.with_name(f"{path.name}.damaged")
    stores.remove_folder(aside)
    path.rename(aside)
    return aside


def write_json(path: str | os.PathLike, content: Any) -> None:
    """Writes JSON with sorted keys, so that equal content is equal bytes."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as stream:
        json.dump(content, stream, indent=1, sort_keys=True)
        stream.write("\n")


SUMS = "SHA256SUMS"

_SUM_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


def file_sha256(path: str | os.PathLike) -> str:
    """Returns the SHA-256 of a file, hexadecimal."""
    with stores.reaching(path), stores.at(path).open("rb") as stream:
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
        found = _SUM_LINE.fullmatch(line)
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


def clear_temporaries(folder: str | os.PathLike, name: str | None = None) -> None:
    """Removes what killed processes left in a folder of files to be replaced.

    Call it where no other process can be writing there, under a lock.

    Args:
        folder: The folder, which may be absent.
        name: Of one file, whose temporary ones of this host are removed; None for those of all.
    """
    of_name = "" if name is None else re.escape(f"{name}.{socket.gethostname()}")
    temporary = re.compile(rf"{of_name or '.+'}\.\d+\.tmp")
    with contextlib.suppress(FileNotFoundError):
        for found in filter(temporary.fullmatch, os.listdir(folder)):
            os.unlink(os.path.join(folder, found))


def this_process() -> str:
    """Returns a line that names this process: its number, its host, and the time."""
    now = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
    return f"process {os.getpid()} on {socket.gethostname()}, since {now}\n"


# How long a lock may seem held by `holder_of`, which asks for no more than a moment.
_ASKING_SECONDS = 0.2


class LockedError(ClefError):
    """Another process holds the lock; the message names it: number, host, since when."""


@contextlib.contextmanager
def locked(
    path: str | os.PathLike, refusal: Callable[[str], Exception] = LockedError
) -> Iterator[None]:
    """Holds a lock file for as long as the block runs, and gives it up when the process dies.

    The file itself stays: to remove it would let two processes lock two files of one name. Who
    holds it stands beside it, in `<path>.holder`, as Windows lets nobody read a locked file.

    Args:
        path: The lock file, in a folder that exists.
        refusal: Makes the error of who holds it: process, host, since when.

    Raises:
        LockedError: Another process holds it; or what `refusal` makes.
        OSError: The file cannot be written.
    """
    stores.require_local(path)
    holder = holder_file(path)
    lock = filelock.FileLock(path, timeout=_ASKING_SECONDS)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise refusal(_holder_in(holder)) from None
    try:
        holder.write_text(this_process())
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            holder.unlink()
        lock.release()


@contextlib.contextmanager
def only_writer(path: str | os.PathLike) -> Iterator[None]:
    """Keeps other processes from writing a file or folder for as long as the block runs.

    What killed ones left of it is removed. The lock lies beside it, `.<name>.lock`, and stays.

    Raises:
        LockedError: Another process writes there.
        OSError: Nothing can be written there.
    """
    stores.require_local(path)
    path = pathlib.Path(os.path.abspath(path))

    def refusal(holder: str) -> LockedError:
        return LockedError(
            f"{path}: another process is writing it ({holder}); wait for it or choose another place"
        )

    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_name(f".{path.name}.lock"), refusal):
        clear_temporaries(path.parent, path.name)
        yield


def holder_of(path: str | os.PathLike) -> str | None:
    """Returns who holds a lock file, see `locked`: process, host, since when; None if nobody does.

    Nobody is refused the lock for this: it is tried only where someone's name is, and for less
    than `locked` waits.
    """
    holder = holder_file(path)
    if not holder.exists():
        return None
    try:
        with filelock.FileLock(path, timeout=0):
            return None
    except filelock.Timeout:
        return _holder_in(holder)
    except OSError:
        return f"{_holder_in(holder)}, unless it was killed: only who may write {path} can tell"


def holder_file(path: str | os.PathLike) -> pathlib.Path:
    """Returns the file that says who holds a lock file, or held it when it was killed."""
    return stores.at(f"{os.fspath(path)}.holder")


def _holder_in(holder: pathlib.Path) -> str:
    try:
        return holder.read_text().strip() or "another process"
    except FileNotFoundError:  # Between taking the lock and saying so, or the other way round.
        return "another process"
