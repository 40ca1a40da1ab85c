r"""Measures how the step divides over devices, and how the loss and the step grow with the batch.

    python -m benchmarks.bench_scaling

Prints and keeps one JSON line for each

- `devices`: the step on 1, 2, 4 ... devices at one global batch. `flops_share` is one device's
  operations, by XLA's count, over those of one device alone. On a CPU the devices are forced ones
  that share its cores: operations divide, records/s cannot grow.
- `loss`: CLEF's loss and its gradient alone on embeddings `[2N, 256]`; `temporary_mb` is what
  XLA sets aside, `whole_matrix_mb` one float32 matrix of 2N x 2N.
- `batch`: the whole step of clef_small at growing batches, up to what memory (half of a CPU's) or
  30 s a step allow.

Takes about eight minutes on two cores.
"""

import functools
import multiprocessing
import os
import sys

import jax
import numpy as np
from absl import app, flags

from benchmarks.programs import default_batch, default_dtype, make_program
from benchmarks.results import Measurements
from clef_jax import losses
from clef_jax.hardware import allocator
from clef_jax.hardware.timing import Times, interleaved

_QUICK = flags.DEFINE_bool("quick", False, "Smallest cases, two steps, nothing kept.")

_BATCHES = (64, 256, 1024, 4096, 16384)
_EMBEDDING = 256
_LONGEST_STEP = 30.0
_FORCED_DEVICES = 4


def measure_devices(quick: bool) -> None:
    """Adds a line for each number of devices; runs in a process that has no backend yet."""
    allocator.keep_freed_memory()
    jax.config.update("jax_num_cpu_devices", _FORCED_DEVICES)
    measurements = Measurements("scaling", keep=not quick)
    batch = 4 if quick else default_batch("clef_small")
    counts = [n for n in (1, 2, 4, 8) if n <= (2 if quick else jax.device_count())]
    programs = {
        n: make_program("clef_small", batch, dtype=default_dtype(), devices=n) for n in counts
    }
    candidates = {str(n): program.step for n, program in programs.items()}
    interleaved(candidates, rounds=1)
    times = interleaved(candidates, rounds=2 if quick else 7)
    for n, program in programs.items():
        measurements.add(
            kind="devices", size="clef_small", batch=batch, dtype=default_dtype(), devices=n,
            flops_share=program.flops / programs[1].flops,
            records_per_s=batch / times[str(n)].median, **times[str(n)].fields(),
        )  # fmt: skip


def measure_loss(measurements: Measurements, batch: int) -> None:
    """Adds a line on the released loss over `batch` subjects."""
    loss = functools.partial(losses.clef_loss, **losses.PRESETS["released"])
    rng = np.random.default_rng(0)
    z = jax.device_put(rng.normal(size=(2 * batch, _EMBEDDING)).astype(np.float32))
    risk = jax.device_put(rng.uniform(1, 30, batch).astype(np.float32))
    compiled = jax.jit(jax.value_and_grad(loss, has_aux=True)).lower(z, risk).compile()
    times = _time(lambda: jax.block_until_ready(compiled(z, risk)))
    measurements.add(
        kind="loss", batch=batch, embedding=_EMBEDDING,
        temporary_mb=compiled.memory_analysis().temp_size_in_bytes / 2**20,
        whole_matrix_mb=4 * (2 * batch) ** 2 / 2**20, **times.fields(),
    )  # fmt: skip


def measure_batches(measurements: Measurements, batches: tuple[int, ...]) -> None:
    """Adds a line for each batch, as long as the next can be expected to fit."""
    memory = seconds = 0.0
    previous = batches[0]
    for batch in batches:
        growth = batch / previous
        if growth * memory > _memory_bytes() or growth * seconds > _LONGEST_STEP:
            break
        program = make_program("clef_small", batch, dtype=default_dtype(), devices=1)
        times = _time(program.step)
        measurements.add(
            kind="batch", size="clef_small", batch=batch, dtype=default_dtype(),
            records_per_s=batch / times.median, memory_mb=program.memory_bytes / 2**20,
            **times.fields(),
        )  # fmt: skip
        memory, seconds, previous = program.memory_bytes, times.median, batch
        del program


def _time(run) -> Times:
    """Returns the times of about 20 s of calls, two at least and nine at most, after the first."""
    first = interleaved({"": run}, rounds=1)[""].best
    return interleaved({"": run}, rounds=int(np.clip(20 / first, 2, 9)))[""]


def _memory_bytes() -> float:
    """Returns what a step may use."""
    stats = jax.devices()[0].memory_stats()
    if stats is not None:
        return stats["bytes_limit"]
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2


def main(argv: list[str]) -> None:
    """Runs all three; the first in a process of its own, as forced devices cannot be undone."""
    del argv
    # First also because a GPU's memory is taken by the first process to use it.
    context = multiprocessing.get_context("spawn")
    child = context.Process(target=measure_devices, args=(_QUICK.value,))
    child.start()
    child.join()
    allocator.keep_freed_memory()
    measurements = Measurements("scaling", keep=not _QUICK.value)
    for batch in (16, 64) if _QUICK.value else _BATCHES:
        measure_loss(measurements, batch)
    measure_batches(measurements, (4,) if _QUICK.value else _BATCHES)
    if child.exitcode:
        sys.exit("measuring several devices failed")


if __name__ == "__main__":
    app.run(main)
