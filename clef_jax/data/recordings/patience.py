"""Reading again what may be readable in a moment, and giving up what never comes."""

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


def patiently(
    read: Callable[[], _Found], fault: type[Exception], where: Callable[[], str]
) -> _Found:
    """Returns `read()`, tried again after each of `PAUSES_S` where it raises a fault that may pass.

    It reads in a thread of its own, as nothing can interrupt a call to a disk that hangs. One that
    takes longer than `STALLED_S` is left behind and not tried again: it may still be at it.

    Args:
        read: What to do.
        fault: What it raises that may pass.
        where: Returns the file that it is reading.

    Raises:
        Exception: The fault, of the last try or of one that stalls; whatever else it raises, of the
            first.
    """
    try:
        for pause_s in PAUSES_S:
            try:
                return _in_time(read)
            except fault:
                time.sleep(pause_s)
        return _in_time(read)
    except _Stalled as error:
        raise fault(
            f"{where()}: cannot be read now (no answer within {STALLED_S:g} s); look whether its "
            "disk or server still answers, then run the same command again"
        ) from error


class _Stalled(Exception):
    """A read has not come back."""


class _Reader:
    """A thread that reads for another, and ends with it."""

    def __init__(self):
        self._reads: queue.SimpleQueue[Callable | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Future] = queue.SimpleQueue()
        thread = threading.Thread(target=_serve, args=(self._reads, self._answers), daemon=True)
        thread.start()

    def __del__(self):
        self._reads.put(None)

    def read(self, read: Callable[[], _Found]) -> _Found:
        self._reads.put(read)
        try:
            answer = self._answers.get(timeout=STALLED_S)
        except queue.Empty:
            raise _Stalled from None
        return answer.result()


def _serve(reads: queue.SimpleQueue, answers: queue.SimpleQueue) -> None:
    while read := reads.get():
        answer: Future = Future()
        try:
            answer.set_result(read())
        except BaseException as error:
            answer.set_exception(error)
        answers.put(answer)
        del read, answer  # They may hold much, and the next read may be long in coming.


_of_this_thread = threading.local()


def _forget() -> None:
    vars(_of_this_thread).clear()


os.register_at_fork(after_in_child=_forget)  # A forked process has one thread.


def _in_time(read: Callable[[], _Found]) -> _Found:
    if not hasattr(_of_this_thread, "reader"):
        _of_this_thread.reader = _Reader()
    try:
        return _of_this_thread.reader.read(read)
    except (_Stalled, KeyboardInterrupt):
        _forget()  # Its answer may come yet, and must not be the next read's.
        raise
