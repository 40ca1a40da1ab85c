"""What a command says of an error in one line, and which errors keep their traceback."""

import errno

import pytest

from clef_jax.cli.ending import line_of
from clef_jax.errors import ClefError


def raised(*errors):
    """Returns an error that came in the course of another, and so on."""
    found = None
    for error in errors:
        error.__context__, found = found, error
    return found


FULL = OSError(errno.ENOSPC, "No space left on device", "/disk/file")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FULL, "/disk/file: No space left on device; what is there already stays as it is: make"),
        (raised(FULL, ValueError("closed"), RuntimeError("x")), "/disk/file: No space left on"),
        (ExceptionGroup("several", [ValueError("y"), FULL]), "/disk/file: No space left on"),
        (ValueError("status: write to 13: No space left on device [28]"), "No space left on dev"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "Disk quota exceeded; what is there"),
        (OSError(errno.EROFS, "Read-only file system", "/cd"), "/cd: Read-only file system; what"),
        (raised(FULL, ClefError("step 4: as it is")), "step 4: as it is"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a"), "[Errno 2] No such"),
    ],
)
def test_what_a_user_can_mend_is_told_in_a_line(error, said):
    line = line_of(error)
    assert line.startswith(said) and "\n" not in line


@pytest.mark.parametrize("error", [ValueError("x"), raised(KeyError("a"), TypeError("b"))])
def test_a_mistake_in_the_program_is_not(error):
    assert line_of(error) is None
