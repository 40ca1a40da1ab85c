"""Devices that are not here, by name: enough of them to compile a program for."""

import importlib.util
import os
import pathlib
import re
from collections.abc import Sequence
from typing import NamedTuple

import jax
from jax.experimental import topologies

from clef_jax.errors import ClefError
from clef_jax.hardware import peaks

# Without them libtpu asks the machine which TPU it has, and waits.
_LIBTPU_SETTINGS = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_STDERR_LOG_LEVEL": "3",
}
# Of a chip's memory: libtpu keeps some, and JAX leaves a quarter of a GPU's alone unless told
# otherwise (XLA_PYTHON_CLIENT_MEM_FRACTION).
_USABLE = {"tpu": 0.984, "cuda": 0.75}
_SLICE = re.compile(r"(v5e|v5p|v6e):(\d+(?:x\d+){1,2})")
_GPUS = {"h100": "h100.txtpb"}
_CHOICES = (
    "a TPU slice by its generation and shape, v5e:2x2, v5e:4x8, v5p:2x2x1, v6e:4x4, or a GPU, "
    + ", ".join(_GPUS)
)


class TargetError(ClefError):
    """A device that cannot be compiled for; the message names the choices, or what to install."""


class Target(NamedTuple):
    """Devices to compile for.

    Attributes:
        name: As asked for.
        platform: "tpu" or "cuda".
        devices: The first ones asked for, for `hosts.data_mesh`.
    """

    name: str
    platform: str
    devices: Sequence[jax.Device]

    @property
    def device_kind(self) -> str:
        """The device's name by JAX, which `peaks.peak` knows."""
        return self.devices[0].device_kind

    @property
    def compiler_options(self) -> dict[str, bool]:
        """Options to compile with.

        Without a device nothing is tuned, and the tile that XLA takes untuned does not compile.
        """
        return {"xla_gpu_enable_triton_gemm": False} if self.platform == "cuda" else {}


def describe(name: str, devices: int | None = None) -> Target:
    """Returns devices that need not be here, for programs that are compiled and not run.

    Args:
        name: A TPU slice, "v5e:2x2" (two chips by two), or "h100".
        devices: How many of them; by default all of the slice, or one GPU.

    Raises:
        TargetError: There are no such devices or not as many, or their compiler is not installed.
    """
    if name in _GPUS:
        topology = _gpus(name, devices or 1)
    elif _SLICE.fullmatch(name):
        topology = _tpus(name)
    else:
        raise TargetError(f"target {name!r} is not known; choose {_CHOICES}")
    found = topology.devices
    if devices is not None and not 1 <= devices <= len(found):
        raise TargetError(f"target {name} has {len(found)} devices, but {devices} are asked for")
    platform = "cuda" if name in _GPUS else "tpu"
    return Target(name, platform, found[:devices])


def _tpus(name: str) -> topologies.TopologyDescription:
    _require("libtpu", name, "tpu")
    for key, value in _LIBTPU_SETTINGS.items():
        os.environ.setdefault(key, value)
    try:
        return topologies.get_topology_desc(platform="tpu", topology_name=name)
    except Exception as error:
        raise TargetError(f"target {name}: libtpu does not know this slice: {error}") from error


def _gpus(name: str, count: int) -> topologies.TopologyDescription:
    if not any(importlib.util.find_spec(f"jax_cuda{n}_plugin") for n in (12, 13)):
        raise _missing(name, "JAX's CUDA plugin", "cuda12")
    config = pathlib.Path(__file__).with_name(_GPUS[name]).read_text(encoding="utf-8")
    try:
        return topologies.get_topology_desc(
            platform="cuda", topology_name="", target_config=config, topology=f"1x1x{count}"
        )
    except Exception as error:
        raise TargetError(
            f"target {name}: JAX's CUDA plugin cannot describe it (does its version fit that of "
            f"jax, {jax.__version__}?): {error}"
        ) from error


def _require(module: str, name: str, extra: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise _missing(name, module, extra)


def _missing(name: str, what: str, extra: str) -> TargetError:
    return TargetError(
        f"target {name} needs {what}, which is not installed: pip install 'clef-jax[aot]', or "
        f"'jax[{extra}]' of the version of jax that is installed ({jax.__version__})"
    )


def memory(target: Target) -> int:
    """Returns the bytes of a chip that a program can have.

    Raises:
        TargetError: Its capacity is not known.
    """
    found = peaks.peak(target.device_kind)
    if found is None:
        raise TargetError(f"{target.device_kind}: the capacity of its memory is not known")
    return int(_USABLE[target.platform] * found.capacity)
