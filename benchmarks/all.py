"""Runs every benchmark at the sizes that suit this machine, most important first, then the report.

    python -m benchmarks.all
    python -m benchmarks.all --minutes 15
    python -m benchmarks.all --quick

Takes about forty minutes on two cores, and at most eight minutes with a GPU or TPU, in bfloat16
only and without embedding, most of which is reading; for a GPU both frameworks' GPU builds must be
installed. Every benchmark has its share of the time and what those before it left over; one that
takes longer is stopped, with every line kept that it has measured, and one that fails does not keep
the others from running. What was stopped or skipped is said at the end.
"""

import subprocess
import sys

from absl import app, flags

from benchmarks.budget import Case, run_cases

_QUICK = flags.DEFINE_bool("quick", False, "The least of everything, nothing kept, no report.")
_MINUTES = flags.DEFINE_float("minutes", None, "Time for all of them; 53 on CPU, 8 elsewhere.")


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
    Case("bench_read", 5),
    Case("bench_plan", 3),
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
_USUAL_MINUTES = {"cpu": 53.0}


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


def _backend() -> str:
    """Returns JAX's backend, asked in a process that ends: one that stays would hold the GPU."""
    ask = "import jax; print(jax.default_backend())"
    found = subprocess.run([sys.executable, "-c", ask], stdout=subprocess.PIPE, check=True)
    return found.stdout.decode().strip()


if __name__ == "__main__":
    app.run(main)
