"""Reading again what may be readable in a moment, and giving up what never comes."""

import contextlib
import contextvars
import os
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

_Found = TypeVar("_Found")
# Between tries, seconds: long enough for a server that restarts a connection, short enough for a
# fault that stays.
PAUSES_S = (0.1, 0.4, 1.6)
# A disk that has not answered for so long is taken for gone; a long recording on a slow one has.
STALLED_S = 300.0
# Counted in parts, as nothing is late because its process was stopped for a while.
_PARTS = 300


def with_retries(read: Callable[[], _Found], fault: type[Exception]) -> _Found:
    """Returns `read()`, tried again after each of `PAUSES_S` where it raises a fault that may pass.

    Raises:
        Exception: The fault, of the last try; whatever else it raises, of the first.
    """
    for pause_s in PAUSES_S:
        try:
            return read()
        except fault:
            time.sleep(pause_s)
    return read()


def in_time(read: Callable[[], _Found], fault: type[Exception], where: Callable[[], str]) -> _Found:
    """Returns `read()`, of a thread of its own: nothing interrupts a call to a disk that hangs.

    One that takes longer than `STALLED_S` is left behind. It may still be at it, so whatever it
    uses must bear to be used by two threads at once.

    Args:
        read: What to do.
        fault: What to raise where it does not come back.
        where: Returns the file that it is at.

    Raises:
        Exception: The fault, or whatever it raises.
    """
    if not hasattr(_of_this_thread, "reader"):
        _of_this_thread.reader = _Reader()
    try:
        answer = _of_this_thread.reader.ask(read)
    except BaseException:  # Such as Ctrl-C: it may still be at it, and hold up the next.
        _forget()
        raise
    if answer is None:
        _forget()
        raise fault(
            f"{where()}: cannot be read now (no answer within {STALLED_S:g} s); look whether its "
            "disk or server still answers, then run the same command again"
        )
    try:
        return answer.result()
    finally:
        del answer  # An error would hold it, and it the error with all that was read.


class _Reader:
    """A thread that reads for another, and ends with it."""

    def __init__(self):
        self._reads: queue.SimpleQueue = queue.SimpleQueue()
        threading.Thread(target=_serve, args=(self._reads,), daemon=True).start()

    def __del__(self):
        self._reads.put(None)

    def ask(self, read: Callable[[], _Found]) -> Future[_Found] | None:
        """Returns what came of `read`, or None where it does not come back."""
        answers: queue.SimpleQueue[Future] = queue.SimpleQueue()
        self._reads.put((contextvars.copy_context(), read, answers))
        for _ in range(_PARTS):
            with contextlib.suppress(queue.Empty):
                return answers.get(timeout=STALLED_S / _PARTS)
        return None


def _serve(reads: queue.SimpleQueue) -> None:
    while wanted := reads.get():
        context, read, answers = wanted
        answer: Future = Future()
        try:
            answer.set_result(context.run(read))
        except BaseException as error:
            answer.set_exception(error)
        answers.put(answer)
        del wanted, context, read, answers, answer  # The next read may be long in coming.


_of_this_thread = threading.local()


def _forget() -> None:
    vars(_of_this_thread).clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)  # A forked process has one thread.
