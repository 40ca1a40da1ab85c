"""Runs every benchmark at the sizes that suit this machine, most important first, then the report.

    python -m benchmarks.all
    python -m benchmarks.all --minutes 15
    python -m benchmarks.all --quick

Takes about half an hour on two cores, and at most eight minutes with a GPU or TPU, in bfloat16
only and without embedding, most of which is reading; for a GPU both frameworks' GPU builds must be
installed. Every benchmark has its share of the time and what those before it left over; one that
takes longer is stopped, with every line kept that it has measured, and one that fails does not keep
the others from running. What was stopped or skipped is said at the end.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

from absl import app, flags, logging

_QUICK = flags.DEFINE_bool("quick", False, "The least of everything, nothing kept, no report.")
_MINUTES = flags.DEFINE_float("minutes", None, "Time for all of them; 45 on CPU, 8 elsewhere.")


class Case(NamedTuple):
    """A benchmark with its arguments, and its share of the time."""

    command: str
    share: float


# Shares are minutes where the time is the usual one. On CPU, the benchmark that reports how long
# compiling takes comes first, as the others find in the cache what it has compiled; where time is
# short, it comes after the comparisons, and says how long a second start takes.
_CPU = (
    Case("bench_step", 4),
    Case("bench_vs_torch --size small", 3),
    Case("bench_vs_torch --size medium", 4),
    Case("bench_vs_torch --size large", 7),
    Case("bench_input", 7),
    Case("bench_scaling", 10),
    Case("bench_embed", 10),
)
_PEERS = "--variants autocast,compile_autocast"
_GPU = (
    Case(f"bench_vs_torch --size medium {_PEERS}", 2),
    Case(f"bench_vs_torch --size large {_PEERS}", 1.75),
    Case(f"bench_vs_torch --size small {_PEERS}", 1.25),
    Case("bench_step --sizes clef_medium,clef_large,clef_small --dtypes bfloat16", 1.25),
    Case("bench_input --sizes clef_medium,clef_large", 1),
    Case("bench_scaling", 0.75),
)
_TPU = (
    Case("bench_step --sizes clef_medium,clef_large,clef_small --dtypes bfloat16", 5),
    Case("bench_input --sizes clef_medium,clef_large", 1.5),
    Case("bench_scaling", 1.5),
)
_USUAL_MINUTES = {"cpu": 45.0}
# Less than this is not worth starting a process for.
_LEAST_SECONDS = 20.0


def main(argv: list[str]) -> None:
    """Runs the benchmarks and says which did not end."""
    del argv
    backend = _backend()
    cases = {"cpu": _CPU, "tpu": _TPU}.get(backend, _GPU)
    minutes = _MINUTES.value or _USUAL_MINUTES.get(backend, 8.0)
    options = ["--quick"] if _QUICK.value else []
    failed = run_cases(cases, 60 * minutes, options)
    if not _QUICK.value:
        subprocess.run([sys.executable, "-m", "benchmarks.report"], check=True)
    if failed:
        sys.exit("\n".join(failed))


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


def _backend() -> str:
    """Returns JAX's backend, asked in a process that ends: one that stays would hold the GPU."""
    ask = "import jax; print(jax.default_backend())"
    found = subprocess.run([sys.executable, "-c", ask], stdout=subprocess.PIPE, check=True)
    return found.stdout.decode().strip()


if __name__ == "__main__":
    app.run(main)
