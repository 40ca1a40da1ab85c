"""Predicts how long a compiled program takes on a described device, operation by operation."""

import collections
import dataclasses
import os
import pathlib
from collections.abc import Callable
from typing import Any

from benchmarks.aot import gpu_model, hlo, tpu_model
from benchmarks.aot.costs import Cost, total_seconds
from clef_jax.hardware import peaks
from clef_jax.hardware.targets import Target


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a program is predicted to cost on one device.

    Attributes:
        costs: Of every operation that runs, in order.
        seconds: Of one execution.
    """

    costs: tuple[Cost, ...]

    @property
    def seconds(self) -> float:
        """Time of one execution: operations in turn, copies in the background."""
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

    def seconds_by(self, key: Callable[[Cost], str]) -> dict[str, float]:
        """Returns the time of foreground operations by what `key` says of them, longest first."""
        sums: collections.Counter[str] = collections.Counter()
        for cost in self.costs:
            if not cost.background:
                sums[key(cost)] += cost.seconds  # type: ignore[assignment]
        return dict(sums.most_common())


def predict(compiled: Any, target: Target, dump: pathlib.Path | None = None) -> Prediction:
    """Returns the prediction for a program compiled for a target.

    Args:
        compiled: From `jax.jit(…).lower(…).compile()`.
        target: What it was compiled for.
        dump: Of a TPU's program, the folder that `tpu_model.DUMP_FLAGS` named while it was
            compiled, and nothing else was.

    Raises:
        ValueError: The device's peaks are not known.
    """
    peak = peaks.peak(target.device_kind)
    if peak is None:
        raise ValueError(f"{target.device_kind}: clef_jax/hardware/peaks.py does not know it")
    module = hlo.parse(compiled.as_text())
    if target.platform == "tpu":
        assert dump is not None
        costs = tpu_model.costs(module, tpu_model.Schedules(dump), peak)
    else:
        costs = gpu_model.costs(module, peak)
    return Prediction(tuple(costs))


def dump_flags(folder: pathlib.Path) -> dict[str, str]:
    """Returns environment variables under which libtpu dumps what `predict` reads.

    libtpu reads them once, when it is loaded: set them before anything of JAX starts a device.
    """
    flags = " ".join(tpu_model.DUMP_FLAGS).format(folder=folder)
    return {"LIBTPU_INIT_ARGS": f"{os.environ.get('LIBTPU_INIT_ARGS', '')} {flags}".strip()}
