"""What Orbax logs of errors that it raises as well."""

import logging
import os


class _RaisedAnyway(logging.Filter):
    """Leaves out errors that Orbax logs, with tracebacks, from each thread that they pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        of_orbax = f"{os.sep}orbax{os.sep}" in record.pathname
        return not (of_orbax and record.levelno >= logging.ERROR)


_FILTER = _RaisedAnyway()


def quiet_orbax() -> None:
    """Has Orbax's errors told once, by whoever waits for what it writes or reads."""
    logging.getLogger("absl").addFilter(_FILTER)
