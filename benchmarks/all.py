"""Runs every benchmark at the sizes that suit this machine, one after another, then the report.

    python -m benchmarks.all
    python -m benchmarks.all --quick

Takes about half an hour on two cores. With a GPU, for which both frameworks' GPU builds must be
installed, the cases are chosen to end in eight minutes: bfloat16 only, and no embedding, most of
which is reading. A benchmark that fails does not keep the others from running.
"""

import os
import subprocess
import sys
import tempfile
import time

from absl import app, flags, logging

_QUICK = flags.DEFINE_bool("quick", False, "The least of everything, nothing kept, no report.")

# Benchmark and arguments -> about how many minutes. The one that reports how long compiling takes
# comes first, as the others find in the cache what it has compiled.
_CPU = {
    "bench_step": 3,
    "bench_vs_torch --size small": 1.5,
    "bench_vs_torch --size medium": 2,
    "bench_vs_torch --size large": 5,
    "bench_input": 5,
    "bench_scaling": 8,
    "bench_embed": 10,
}
_VARIANTS = "--variants autocast,compile_autocast"
_GPU = {
    "bench_step --dtypes bfloat16": 2,
    f"bench_vs_torch --size medium {_VARIANTS}": 1,
    f"bench_vs_torch --size large {_VARIANTS}": 1.5,
    f"bench_vs_torch --size small {_VARIANTS}": 0.5,
    "bench_input --sizes clef_medium,clef_large": 1.5,
    "bench_scaling": 1,
}


def main(argv: list[str]) -> None:
    """Runs the benchmarks and says which failed."""
    del argv
    minutes = _CPU if _backend() == "cpu" else _GPU
    options = []
    if _QUICK.value:
        minutes, options = dict.fromkeys(minutes, 1), ["--quick"]
    failed, begin, done = [], time.perf_counter(), 0.0
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": cache}
        for number, (benchmark, expected) in enumerate(minutes.items(), 1):
            elapsed = (time.perf_counter() - begin) / 60
            pace = elapsed / done if done else 1
            left = pace * (sum(minutes.values()) - done)
            logging.info(
                "[%d/%d] %s; %.0f min so far, about %.0f min left",
                number, len(minutes), benchmark, elapsed, left,
            )  # fmt: skip
            name, *arguments = benchmark.split()
            command = [sys.executable, "-m", f"benchmarks.{name}", *arguments, *options]
            if subprocess.run(command, env=environment).returncode:
                failed.append(benchmark)
            done += expected
    if not _QUICK.value:
        subprocess.run([sys.executable, "-m", "benchmarks.report"], check=True)
    logging.info("Finished in %.0f min", (time.perf_counter() - begin) / 60)
    if failed:
        sys.exit(f"failed: {'; '.join(failed)}")


def _backend() -> str:
    """Returns JAX's backend, asked in a process that ends: one that stays would hold the GPU."""
    ask = "import jax; print(jax.default_backend())"
    found = subprocess.run([sys.executable, "-c", ask], stdout=subprocess.PIPE, check=True)
    return found.stdout.decode().strip()


if __name__ == "__main__":
    app.run(main)
