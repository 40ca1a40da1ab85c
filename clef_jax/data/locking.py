"""One process at a time where two would spoil each other's files, on every system."""

import contextlib
import datetime
import os
import pathlib
import socket
from collections.abc import Callable, Iterator

import filelock


class LockedError(RuntimeError):
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
    path = os.fspath(path)
    holder = pathlib.Path(path + ".holder")
    lock = filelock.FileLock(path, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise refusal(_read(holder)) from None
    try:
        now = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()}, since {now}\n")
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            holder.unlink()
        lock.release()


def _read(holder: pathlib.Path) -> str:
    try:
        return holder.read_text().strip() or "another process"
    except FileNotFoundError:  # Between taking the lock and saying so, or the other way round.
        return "another process"
