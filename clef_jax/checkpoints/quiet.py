"""What Orbax and TensorStore say of errors that are raised as well.

The first write that fails is raised, by whoever waits for it. Others that fail meanwhile have
nobody left to hear of them, as the event loop is closed: each would be a traceback of its own,
logged by Orbax, logged by asyncio or printed by the thread of TensorStore that wrote.
"""

import logging
import os
import re
import sys
import threading
import traceback
from typing import Any

_ORBAX = f"{os.sep}orbax{os.sep}"
# What TensorStore's threads set as an error begins with a status, and has no frame of Python.
_STATUS = re.compile(
    "(CANCELLED|UNKNOWN|INVALID_ARGUMENT|DEADLINE_EXCEEDED|NOT_FOUND|ALREADY_EXISTS|"
    "PERMISSION_DENIED|RESOURCE_EXHAUSTED|FAILED_PRECONDITION|ABORTED|OUT_OF_RANGE|UNIMPLEMENTED|"
    "INTERNAL|UNAVAILABLE|DATA_LOSS|UNAUTHENTICATED): "
)


class _RaisedAnyway(logging.Filter):
    """Leaves out errors that Orbax logs, with tracebacks, from each thread that they pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (_ORBAX in record.pathname and record.levelno >= logging.ERROR)


class _Unheard(logging.Filter):
    """Leaves out errors of Orbax's writes that asyncio logs because nobody waited for them."""

    def filter(self, record: logging.LogRecord) -> bool:
        if "exception was never retrieved" not in record.getMessage() or not record.exc_info:
            return True
        _, error, trace = record.exc_info
        if trace is None:
            return not _STATUS.match(str(error))
        return not any(_ORBAX in frame.filename for frame in traceback.extract_tb(trace))


_FILTERS = {"absl": _RaisedAnyway(), "asyncio": _Unheard()}


def quiet_orbax() -> None:
    """Has errors of what Orbax writes or reads told once, by whoever waits for it."""
    for name, filter_ in _FILTERS.items():
        logging.getLogger(name).addFilter(filter_)
    if not isinstance(sys.unraisablehook, _OfNoLoop):
        sys.unraisablehook = _OfNoLoop()


class _OfNoLoop:
    """Leaves out what writes raise that outlive their event loop.

    TensorStore's threads cannot tell a loop that is closed, and Orbax's coroutines that no loop
    runs on to their end cannot give back what they reserved.
    """

    def __init__(self):
        self._hook = sys.unraisablehook

    def __call__(self, unraisable: Any) -> None:
        if not (_is_of_a_thread(unraisable) or _is_of_a_coroutine(unraisable)):
            self._hook(unraisable)


def _is_of_a_thread(unraisable: Any) -> bool:
    error = unraisable.exc_value
    of_no_loop = isinstance(error, RuntimeError) and str(error) == "Event loop is closed"
    of_library = threading.current_thread() is not threading.main_thread()
    return of_no_loop and of_library and unraisable.object is None


def _is_of_a_coroutine(unraisable: Any) -> bool:
    code = getattr(unraisable.object, "cr_code", None)
    return code is not None and _ORBAX in code.co_filename
