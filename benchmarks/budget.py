"""Runs commands one after another within a time, and says which did not end."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

from absl import logging

# Less than this is not worth starting a process for.
_LEAST_SECONDS = 20.0


class Case(NamedTuple):
    """A benchmark with its arguments, and its share of the time."""

    command: str
    share: float


def run_cases(cases: tuple[Case, ...], seconds: float, options: list[str]) -> list[str]:
    """Runs cases one after another, all within a time.

    Args:
        cases: In the order of their importance.
        seconds: For all of them; divided by their shares.
        options: Further arguments of each.

    Returns:
        A sentence for each case that failed, was stopped or was skipped.
    """
    begin = time.perf_counter()
    unit = seconds / sum(case.share for case in cases)
    failed = []
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": cache}
        for number, case in enumerate(cases, 1):
            elapsed = time.perf_counter() - begin
            later = unit * sum(case.share for case in cases[number:])
            allowed = seconds - elapsed - later
            logging.info(
                "[%d/%d] %s; %.1f min so far, at most %.1f min left",
                number, len(cases), case.command, elapsed / 60, (seconds - elapsed) / 60,
            )  # fmt: skip
            if allowed < _LEAST_SECONDS:
                failed.append(f"skipped, as no time was left: {case.command}")
            elif reason := _run(case.command, options, environment, allowed):
                failed.append(f"{reason}: {case.command}")
    logging.info("Finished in %.1f min", (time.perf_counter() - begin) / 60)
    return failed


def _run(
    command: str, options: list[str], environment: dict[str, str], seconds: float
) -> str | None:
    """Runs a benchmark, and returns what went wrong."""
    name, *arguments = command.split()
    process = subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.{name}", *arguments, *options],
        env=environment,
        # A group of its own, so that the processes that it has started end with it.
        start_new_session=True,
    )
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        return f"stopped after {seconds:.0f} s, with the lines kept that it had measured"
    finally:
        _end_group(process)
    return f"failed with exit code {code}" if code else None


def _end_group(process: subprocess.Popen) -> None:
    """Kills a process and whatever it started that has not ended by itself."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()
