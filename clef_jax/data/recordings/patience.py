"""Reading again what may be readable in a moment."""

import time
from collections.abc import Callable
from typing import TypeVar

_Found = TypeVar("_Found")
# Between tries, seconds: long enough for a server that restarts a connection, short enough for a
# fault that stays.
PAUSES_S = (0.1, 0.4, 1.6)


def patiently(read: Callable[[], _Found], fault: type[Exception]) -> _Found:
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
