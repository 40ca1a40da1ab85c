"""How a command ends that cannot go on: what a user can mend is told in one line."""

import errno
import os
from collections.abc import Iterator

from clef_jax.errors import ClefError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_WRITING = (errno.EROFS, errno.EACCES, errno.EPERM)


def line_of(error: BaseException) -> str | None:
    """Returns what to tell of an error, or None where it is a mistake in the program.

    Libraries raise errors of their own for a disk that is full or must not be written, some in
    the background and several at once. Whatever they are, the disk is at fault.
    """
    if isinstance(error, ClefError):
        return str(error)
    for one in _chain(error):
        for codes, remedy in (
            (_NO_ROOM, "make room and run the same command again"),
            (_NO_WRITING, "choose another place, or make this one writable and run it again"),
        ):
            if said := _said_by(one, codes):
                return f"{said}; what is there already stays as it is: {remedy}"
    return str(error) if isinstance(error, OSError) else None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yields an error, those that it groups, and those from which or in whose course it came."""
    waiting, seen = [error], set()
    while waiting:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        grouped = one.exceptions if isinstance(one, BaseExceptionGroup) else ()
        context = None if one.__suppress_context__ else one.__context__
        waiting += [e for e in (*grouped, one.__cause__, context) if e is not None]


def _said_by(error: BaseException, codes: tuple[int, ...]) -> str | None:
    """Returns which of some faults of the disk an error tells of, and where."""
    if isinstance(error, OSError) and error.errno in codes:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{os.strerror(error.errno)}"
    found = [os.strerror(code) for code in codes if os.strerror(code) in str(error)]
    return found[0] if found else None
