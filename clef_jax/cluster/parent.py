"""A process of several as the child of another, which says in a line what ended it.

JAX ends a process whose fellows are gone, or do not come, from C++ and by abort(), with a dump of
its stack: Python has no say in it. What became of the process can only be told from outside.
"""

import os
import re
import select
import signal
import subprocess
import sys
import threading
from typing import IO

from clef_jax.cluster.place import MEET_SECONDS, Place
from clef_jax.errors import ClefError

_IS_CHILD = "CLEF_JAX_IS_CHILD"
_STDIN = 0
# How JAX begins to say why it ends a process: warnings and errors, and then what is fatal.
_LAST_WORDS = re.compile(
    rb"[WEF]\d{4} [\d:.]+ +\d+ (?:coordination_\w+\.cc|preemption_\w+\.cc|client\.h):"
)
_FATAL = b"JAX distributed service detected fatal errors"
# One a line, by number or, of older releases, by a name that ends in it.
_SILENT = re.compile(r"stopped sending heartbeats\):\n(.*?)\nThe tasks", re.DOTALL)
# An error after which a process is silent for so long is not its last word.
_SILENT_SECONDS = 5


class RunEnded(ClefError):
    """A process of the run was ended from outside; the message says by whom and what to do."""


def is_child() -> bool:
    """Returns whether this process is one that `run_again` has started."""
    return _IS_CHILD in os.environ


def leave_with_parent() -> None:
    """Ends this process, started by `run_again`, once its parent is dead."""

    def wait_and_leave() -> None:
        os.read(_STDIN, 1)  # The parent holds the other end, and writes nothing.
        os._exit(1)

    threading.Thread(target=wait_and_leave, daemon=True).start()


def run_again(place: Place) -> int:
    """Runs this process's command as its child, and returns the child's exit status.

    SIGTERM goes on to the child, and SIGINT as SIGTERM. The child has a process group of its own,
    so that it gets neither twice.

    Args:
        place: Of this process, and so of the child.

    Raises:
        RunEnded: A signal ended the child, be it because JAX lost other processes.
    """
    with subprocess.Popen(
        [sys.executable, *sys.orig_argv[1:]],
        env=os.environ | {_IS_CHILD: "1"},
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,
    ) as child:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: child.send_signal(signal.SIGTERM))
        assert child.stderr is not None
        last_words = _copy(child.stderr)
        status = child.wait()
    if status < 0 and _FATAL in last_words:
        raise RunEnded(_reason(last_words.decode(errors="replace"), place))
    _show(last_words)
    if status < 0:
        raise RunEnded(
            f"{signal.Signals(-status).name} ended process {place.process} of {place.processes}; "
            "the same command on every host resumes the run from its last checkpoint"
        )
    return status


def _copy(errors: IO[bytes]) -> bytes:
    """Shows what a child writes, up to what JAX says as it ends it, which is returned.

    What is shown ends with a whole line: a progress bar has none, and more is to be said.
    """
    line, held, last = b"", b"", b"\n"
    while True:
        is_last = not held or _FATAL in held
        if not is_last and not select.select([errors], [], [], _SILENT_SECONDS)[0]:
            _show(held)
            held, last = b"", held
        chunk = os.read(errors.fileno(), 1 << 16)
        if not chunk:
            if not last.endswith(b"\n"):
                _show(b"\n")
            return held
        if held:
            held += chunk
            continue
        text = line + chunk
        begin = found.start() if (found := _LAST_WORDS.search(text)) else len(text)
        _show(shown := text[len(line) : begin])
        last = shown or last
        held = text[begin:]
        # What is held and shown later must not be found again.
        line = b"" if held else text[max(text.rfind(b"\n"), text.rfind(b"\r")) + 1 :]


def _show(text: bytes) -> None:
    sys.stderr.buffer.write(text)
    sys.stderr.buffer.flush()


def _reason(last_words: str, place: Place) -> str:
    """Returns what JAX means, in a line."""
    if "RegisterTask" in last_words:
        return (
            f"the {place.processes} processes of the run did not all come to {place.coordinator} "
            f"within {MEET_SECONDS} s; look which of them did not start, and start all together, "
            "or this one alone with --processes=1"
        )
    listed = "\n".join(_SILENT.findall(last_words))
    numbers = sorted(set(map(int, re.findall(r"(\d+)$", listed, re.MULTILINE))))
    # Where nobody says who is gone, it is the one that would say it.
    lost = ("processes " if numbers[1:] else "process ") + ", ".join(map(str, numbers or [0]))
    return (
        f"lost {lost} of {place.processes}, so process {place.process} has ended too; the same "
        "command on every host resumes the run from its last checkpoint"
    )
