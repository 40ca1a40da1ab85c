r"""Measures the full pretraining step: augmentation, encoder, loss, gradients, optimiser.

    python -m benchmarks.bench_step
    python -m benchmarks.bench_step --sizes clef_large --batches 8,16 --dtypes bfloat16 --remat both

Prints and keeps one JSON line for each size x batch x type x rematerialisation: records/s, FLOP/s,
their share of the measured ceiling of matrix products (MFU) and of the roofline, memory, and how
long compiling took. About three minutes on two cores.
"""

import itertools

import jax
from absl import app, flags

from benchmarks.ceilings import measure_ceilings
from benchmarks.programs import default_batch, make_program
from benchmarks.results import Measurements
from clef_jax.data.signals.spec import CLEF_V2
from clef_jax.hardware import allocator, peaks
from clef_jax.hardware.timing import interleaved
from clef_jax.models import costs, get_config

_SIZES = flags.DEFINE_list("sizes", "clef_small,clef_medium,clef_large", "Sizes to measure.")
_BATCHES = flags.DEFINE_list("batches", None, "Records a step; by default 64, 8, 8 by size on CPU "
                             "and 1024, 256, 64 on accelerators.")  # fmt: skip
_DTYPES = flags.DEFINE_list("dtypes", None, "By default float32 on CPU, bfloat16 and it elsewhere.")
_REMAT = flags.DEFINE_enum("remat", "off", ["off", "on", "both"], "Rematerialise blocks.")
_QUICK = flags.DEFINE_bool("quick", False, "Small, two steps, nothing kept.")


def main(argv: list[str]) -> None:
    """Measures every combination asked for."""
    del argv
    allocator.keep_freed_memory()
    accelerated = jax.default_backend() != "cpu"
    measurements = Measurements("step", keep=not _QUICK.value)
    sizes = ["clef_small"] if _QUICK.value else _SIZES.value
    dtypes = _DTYPES.value or (["bfloat16", "float32"] if accelerated else ["float32"])
    remats = {"off": [False], "on": [True], "both": [False, True]}[_REMAT.value]
    for dtype in dtypes:
        flops_per_s, bytes_per_s = measure_ceilings(dtype, rounds=2 if _QUICK.value else 9)
        measurements.add(kind="ceilings", dtype=dtype, flops_per_s=flops_per_s,
                         bytes_per_s=bytes_per_s)  # fmt: skip
        for size, remat in itertools.product(sizes, remats):
            config = get_config(size)
            batches = [4] if _QUICK.value else _BATCHES.value or [default_batch(size)]
            for batch in map(int, batches):
                program = make_program(size, batch, dtype=dtype, remat=remat, devices=1)
                program.step()
                rounds = 2 if _QUICK.value else (30 if accelerated else 9)
                times = interleaved({"step": program.step}, rounds=rounds)["step"]
                bound = costs.roofline_seconds(
                    config,
                    CLEF_V2.samples,
                    batch,
                    {"float32": 4, "bfloat16": 2}[dtype],
                    flops_per_s=flops_per_s,
                    bytes_per_s=bytes_per_s,
                )
                rate = batch / times.median
                peak = peaks.peak_flops(jax.devices()[0].device_kind, dtype)
                measurements.add(
                    kind="step", size=size, batch=batch, dtype=dtype, remat=remat,
                    records_per_s=rate,
                    flops_per_s=rate * costs.train_flops(config, CLEF_V2.samples),
                    mfu=costs.mfu(config, CLEF_V2.samples, records_per_s=rate,
                                  flops_per_s=peak or flops_per_s),
                    mfu_of="data sheet" if peak else "measured product",
                    roofline_share=bound / times.median,
                    memory_mb=program.memory_bytes / 2**20,
                    compile_seconds=program.compile_seconds, **times.fields(),
                )  # fmt: skip
                del program


if __name__ == "__main__":
    app.run(main)
