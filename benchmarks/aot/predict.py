"""Predicts how long a compiled program takes on a described device, operation by operation."""

import dataclasses
import os
import pathlib
from collections.abc import Callable

from benchmarks.aot import collectives, frames, gpu_model, hlo, places, tpu_model
from benchmarks.aot.costs import Cost, total_seconds
from benchmarks.aot.flops import total_flops
from clef_jax.hardware import peaks


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a program is predicted to cost on one device.

    Attributes:
        costs: Of every operation that runs, in order.
        places: Tells which part of the training step an operation belongs to.
        predicted_by: "schedules and bytes" or "bytes and FLOPs".
        flops: Operations of products and convolutions of one execution, zeros included.
        chips: How many run the program together.
    """

    costs: tuple[Cost, ...]
    places: places.Places
    predicted_by: str
    flops: int
    chips: int

    @property
    def seconds(self) -> float:
        """Time of one execution: operations in turn, others in the background."""
        return total_seconds(self.costs)

    @property
    def bytes(self) -> int:
        """Bytes moved to and from the device's main memory."""
        return sum(cost.bytes for cost in self.costs)

    @property
    def resolved(self) -> float:
        """Share of the time that no guess is part of."""
        total = sum(cost.seconds for cost in self.costs)
        return sum(cost.seconds for cost in self.costs if cost.known) / total if total else 1.0

    @property
    def unresolved(self) -> dict[str, float]:
        """Seconds of the ten longest operations that a guess is part of, by name."""
        guessed = [cost for cost in self.costs if not cost.known and not cost.background]
        longest = sorted(guessed, key=lambda cost: -cost.seconds)[:10]
        return {cost.operation.name: cost.seconds for cost in longest}

    @property
    def by_place(self) -> dict[str, dict[str, float]]:
        """Seconds and bytes of each part of a training step, the longest first."""
        return self._by(lambda cost: self.places.of(cost.operation))

    @property
    def by_kind(self) -> dict[str, dict[str, float]]:
        """Seconds and bytes of each kind of operation: fusion, copy, a kernel's name."""
        return self._by(_kind)

    @property
    def collectives(self) -> dict[str, dict[str, float]]:
        """Number of executions of each collective in a step, and the bytes that a chip sends."""
        sums: dict[str, dict[str, float]] = {}
        for cost in self.costs:
            if found := collectives.kind(cost.operation):
                of_kind = sums.setdefault(found, {"count": 0, "bytes": 0})
                of_kind["count"] += cost.times
                of_kind["bytes"] += cost.times * collectives.sent_bytes(cost.operation, self.chips)
        return sums

    def _by(self, key: Callable[[Cost], str]) -> dict[str, dict[str, float]]:
        sums: dict[str, dict[str, float]] = {}
        for cost in self.costs:
            part = sums.setdefault(key(cost), {"seconds": 0.0, "bytes": 0, "operations": 0})
            part["seconds"] += 0.0 if cost.background else cost.seconds
            part["bytes"] += cost.bytes
            part["operations"] += cost.times
        return dict(sorted(sums.items(), key=lambda item: -item[1]["seconds"]))


def _kind(cost: Cost) -> str:
    target = cost.operation.attribute(r'custom_call_target="([^"]+)"')
    return target or cost.operation.opcode


def predict(text: str, device_kind: str, dump: pathlib.Path | None = None) -> Prediction:
    """Returns the prediction for a compiled program.

    Args:
        text: From `compiled.as_text()`.
        device_kind: What it was compiled for, as JAX names it.
        dump: Of a TPU's program, the folder that `dump_flags` named while it was compiled, and
            nothing else was; None models a GPU's.

    Raises:
        ValueError: The device's peaks are not known.
    """
    module = hlo.parse(text)
    if dump is None:
        costs = gpu_model.costs(module, device_kind)
    else:
        peak = peaks.peak(device_kind)
        if peak is None:
            raise ValueError(f"{device_kind}: clef_jax/hardware/peaks.py does not know it")
        costs = tpu_model.costs(module, tpu_model.Schedules(dump), peak)
    told = "bytes and FLOPs" if dump is None else "schedules and bytes"
    parts = places.Places(module, frames.Frames(text))
    return Prediction(tuple(costs), parts, told, total_flops(module), module.chips)


def dump_flags(folder: pathlib.Path) -> dict[str, str]:
    """Returns environment variables under which libtpu dumps what `predict` reads.

    libtpu reads them once, when it is loaded: set them before anything of JAX starts a device.
    """
    flags = " ".join(tpu_model.DUMP_FLAGS).format(folder=folder)
    return {"LIBTPU_INIT_ARGS": f"{os.environ.get('LIBTPU_INIT_ARGS', '')} {flags}".strip()}
