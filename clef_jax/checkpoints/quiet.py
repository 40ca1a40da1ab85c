"""What Orbax and TensorStore say of errors that are raised as well.

The first write that fails is raised, by whoever waits for it. Others that fail meanwhile have
nobody left to hear of them, as the event loop is closed: each would be a traceback of its own,
logged by Orbax, logged by asyncio or printed by the thread of TensorStore that wrote.
"""

import logging
import os
import sys
import threading
import traceback
from typing import Any

_ORBAX = f"{os.sep}orbax{os.sep}"


class _RaisedAnyway(logging.Filter):
    """Leaves out errors that Orbax logs, with tracebacks, from each thread that they pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (_ORBAX in record.pathname and record.levelno >= logging.ERROR)


class _Unheard(logging.Filter):
    """Leaves out errors of Orbax's writes that asyncio logs because nobody waited for them."""

    def filter(self, record: logging.LogRecord) -> bool:
        trace = record.exc_info[2] if record.exc_info else None
        unheard = "exception was never retrieved" in record.getMessage()
        return not (unheard and any(_ORBAX in f.filename for f in traceback.extract_tb(trace)))


_FILTERS = {"absl": _RaisedAnyway(), "asyncio": _Unheard()}


def quiet_orbax() -> None:
    """Has errors of what Orbax writes or reads told once, by whoever waits for it."""
    for name, filter_ in _FILTERS.items():
        logging.getLogger(name).addFilter(filter_)
    if not isinstance(sys.unraisablehook, _OfNoLoop):
        sys.unraisablehook = _OfNoLoop()


class _OfNoLoop:
    """Leaves out what TensorStore's threads cannot tell an event loop that is closed."""

    def __init__(self):
        self._hook = sys.unraisablehook

    def __call__(self, unraisable: Any) -> None:
        error = unraisable.exc_value
        of_no_loop = isinstance(error, RuntimeError) and str(error) == "Event loop is closed"
        of_library = threading.current_thread() is not threading.main_thread()
        if not (of_no_loop and of_library and unraisable.object is None):
            self._hook(unraisable)
