r"""Asks the compilers what the full pretraining step costs on devices that are not here.

    python -m benchmarks.bench_aot --target v5e:2x2 --size medium --batch 64 --chips 1,4,8,16
    python -m benchmarks.bench_aot --target h100 --size small --batch 1024
    python -m benchmarks.bench_aot --target v5e:2x2 --size small --batch 256 --source ../before

Prints and keeps one JSON line a case: seconds to compile, memory and the largest batch that fits,
FLOPs and bytes of a chip, operations by kind and by part of the step, collectives, and a time. None
of it was measured: TPUs are predicted by libtpu's schedules and bytes, GPUs modelled by bytes and
FLOPs (`benchmarks/aot/`). Needs `pip install 'clef-jax[aot]'`; minutes of two cores a case, most of
it for the second compilation of a TPU's program, with its schedules dumped.
"""

import pathlib
import subprocess
import tempfile
import time

from absl import app, flags, logging

from benchmarks.aot import predict
from benchmarks.aot.autotuned import count_autotuned
from benchmarks.aot.worker import Case, CompileError, compile_case
from benchmarks.results import Measurements
from clef_jax.data.signals.spec import CLEF_V2
from clef_jax.hardware import peaks
from clef_jax.models import costs, get_config

_TARGET = flags.DEFINE_string("target", "v5e:2x2", "Devices, as clef_jax.hardware.targets says.")
_SIZE = flags.DEFINE_enum("size", "small", ["small", "medium", "large"], "Size of the encoder.")
_BATCH = flags.DEFINE_integer("batch", None, "Records of the global batch.", required=True)
_CHIPS = flags.DEFINE_list("chips", ["1"], "Numbers of chips, each a case.")
_DTYPE = flags.DEFINE_string("dtype", "bfloat16", "Type of the encoder's products.")
_REMAT = flags.DEFINE_bool("remat", False, "Rematerialise blocks.")
_CONVOLUTIONS = flags.DEFINE_enum(
    "convolutions", "rule", ["rule", "plain"], "The package's choice, or XLA's own everywhere."
)
_SOURCE = flags.DEFINE_string("source", None, "Root of another clone, whose package is compiled.")
_TIMES = flags.DEFINE_bool("times", True, "Predict times; for a TPU, by compiling once more.")
_KEEP = flags.DEFINE_bool("keep", True, "Append to benchmarks/results/aot.jsonl.")

_ROOT = pathlib.Path(__file__).resolve().parent.parent
# The slices that there are, by generation and chips.
_SLICES = {
    "v5e": {4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8"},
    "v6e": {4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8"},
    "v5p": {4: "2x2x1", 8: "2x2x2", 16: "2x2x4", 32: "2x4x4"},
}


def main(argv: list[str]) -> None:
    """Compiles every case and keeps what came of it."""
    del argv
    source = pathlib.Path(_SOURCE.value or _ROOT).resolve()
    commit = _commit(source)
    for chips in map(int, _CHIPS.value):
        case = Case(
            target=target_for(_TARGET.value, chips),
            chips=chips,
            size=f"clef_{_SIZE.value}",
            batch=_BATCH.value,
            dtype=_DTYPE.value,
            remat=_REMAT.value,
            convolutions=_CONVOLUTIONS.value,
            source=str(source),
        )
        measurements = Measurements(
            "aot", keep=_KEEP.value, described=_TARGET.value.partition(":")[0]
        )
        fields = {
            "target": case.target, "size": case.size, "batch": case.batch, "chips": chips,
            "dtype": case.dtype, "remat": case.remat, "convolutions": case.convolutions,
            "version": "before" if _SOURCE.value else "now", "commit": commit,
        }  # fmt: skip
        try:
            found = examine(case)
        except CompileError as error:
            measurements.add(kind="failed", estimate="compiler", **fields, error=str(error)[:300])
            continue
        measurements.add(kind="step", estimate="compiler", **fields, **found)


def target_for(name: str, chips: int) -> str:
    """Returns the target itself, or the smallest slice of its generation with so many chips."""
    generation, _, shape = name.partition(":")
    slices = _SLICES.get(generation, {})
    held = next((count for count, known in slices.items() if known == shape), None)
    if held is None or held >= chips:
        return name
    larger = [known for count, known in slices.items() if count >= chips]
    return f"{generation}:{larger[0]}" if larger else name


def examine(case: Case) -> dict[str, object]:
    """Returns what the compiler says of a case, rates and parts included.

    Raises:
        CompileError: It does not compile.
    """
    is_tpu = case.target != "h100"
    with tempfile.TemporaryDirectory() as name:
        folder, dump = pathlib.Path(name), pathlib.Path(name, "dump")
        dump.mkdir()
        facts = compile_case(case, folder, dump_flags={})
        logging.info("compiled in %.0f s", facts["compile_seconds"])
        if not _TIMES.value:
            return facts
        # Dumping slows compiling, so that its duration is taken without.
        begin = time.perf_counter()
        if is_tpu:
            compile_case(case, folder, dump_flags=predict.dump_flags(dump))
        dump_seconds = time.perf_counter() - begin
        begin = time.perf_counter()
        text = (folder / "step.hlo").read_text()
        found = predict.predict(text, facts["device_kind"], dump if is_tpu else None)
        facts |= {
            "dump_seconds": dump_seconds if is_tpu else None,
            "read_seconds": time.perf_counter() - begin,
        }
        if not is_tpu:
            facts["autotuned"] = count_autotuned(text)
        # XLA's own count knows padding, but enters no loop twice and is silent on GPUs.
        counted = {"flops": facts["xla_flops"] or found.flops}
        return facts | describe(found, case, facts["device_kind"]) | counted


def describe(found: predict.Prediction, case: Case, device_kind: str) -> dict[str, object]:
    """Returns the fields of a prediction."""
    peak = peaks.peak(device_kind)
    useful = costs.train_flops(get_config(case.size), CLEF_V2.samples) * case.batch / case.chips
    return {
        "predicted_by": found.predicted_by,
        "seconds": found.seconds,
        "records_per_s": case.batch / found.seconds,
        "resolved": found.resolved,
        "unresolved": found.unresolved,
        "moved_bytes": found.bytes,
        "useful_flops": useful,
        "mfu": useful / found.seconds / getattr(peak, case.dtype) if peak else None,
        "operations": len(found.costs),
        "by_kind": found.by_kind,
        "by_place": found.by_place,
        "collectives": found.collectives,
    }


def _commit(source: pathlib.Path) -> str:
    command = ["git", "-C", str(source), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    app.run(main)
