"""Where measurements go: one JSON line each, on the terminal and in `benchmarks/results/`."""

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
from typing import Any

FOLDER = pathlib.Path(__file__).with_name("results")
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch")


def machine(described: str | None = None) -> dict[str, Any]:
    """Returns what a reader needs to know of the machine: processor, devices, versions, load.

    Args:
        described: The device that a compiler was told of, where none of this machine's is used.
    """
    return {
        "date": datetime.date.today().isoformat(),
        **(_devices() if described is None else {"backend": "described", "device": described}),
        "cores": os.cpu_count(),
        # Of others too: shared machines are slower than their processors say.
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
    }


def _devices() -> dict[str, Any]:
    import jax

    from clef_jax.hardware.caches import device_name

    device = jax.devices()[0]
    return {
        "backend": jax.default_backend(),
        "device": device_name(device),
        "devices": jax.device_count(),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


class Measurements:
    """Prints measurements and, unless told otherwise, appends them to `results/<name>.jsonl`.

    Args:
        benchmark: Name of the benchmark.
        keep: Whether to append to the file; smoke tests do not.
        described: As of `machine`.
    """

    def __init__(self, benchmark: str, *, keep: bool, described: str | None = None):
        self._benchmark, self._keep = benchmark, keep
        self._machine = machine(described)

    def add(self, **fields: Any) -> None:
        """Adds one measurement; numbers are rounded to four digits."""
        row = {"benchmark": self._benchmark, **fields, "machine": self._machine}
        line = json.dumps(_rounded(row))
        print(line, flush=True)
        if self._keep:
            FOLDER.mkdir(exist_ok=True)
            with open(FOLDER / f"{self._benchmark}.jsonl", "a") as file:
                file.write(line + "\n")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value
