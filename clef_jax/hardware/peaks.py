"""What devices can do at their best, by their vendors' data sheets."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Peak:
    """What one chip does at best, by its vendor's data sheet.

    Attributes:
        bfloat16: Dense FLOP/s in bfloat16.
        float32: Dense FLOP/s of float32 products with all 24 bits, as `ops.precision` asks for
            them: outside the tensor cores on GPUs, in six bfloat16 passes on TPUs.
        memory: Bytes/s of its main memory.
        capacity: Bytes of its main memory; of an H100, what its driver gives to programs.
        tpu: What schedules of a TPU are timed by, else None.
    """

    bfloat16: float
    float32: float
    memory: float
    capacity: float
    tpu: "TpuCore | None" = None


@dataclasses.dataclass(frozen=True)
class TpuCore:
    """The clocks of a TPU.

    Attributes:
        clock_hz: Instructions a second.
        rows_hz: Rows of bfloat16 that each of its matrix units multiplies by its weights a second.
        links: Bytes/s that a chip sends over all its links to others.
        vmem: Bytes of one core's fast memory (VMEM).
    """

    clock_hz: float
    rows_hz: float
    links: float
    vmem: int


def _tpu(
    bfloat16: float,
    memory: float,
    gib: int,
    clock_hz: float,
    units: int,
    side: int,
    links: float,
    vmem_mib: int,
) -> Peak:
    """Returns the peaks of a chip of so many matrix units of `side` by `side`."""
    core = TpuCore(clock_hz, bfloat16 / (2 * side**2 * units), links, vmem_mib * 2**20)
    return Peak(bfloat16, bfloat16 / 6, memory, gib * 2**30, core)


# By part of the device kind; the first that fits holds, so the more specific come first.
PEAKS = {
    "B200": Peak(2250e12, 75e12, 8.0e12, 180e9),
    "H200": Peak(989e12, 67e12, 4.8e12, 141e9),
    "H100 PCIe": Peak(756e12, 51e12, 2.0e12, 80e9),
    "H100 NVL": Peak(835e12, 60e12, 3.9e12, 94e9),
    "H100": Peak(989e12, 67e12, 3.35e12, 84_942_979_072),
    "A100-SXM4-80GB": Peak(312e12, 19.5e12, 2.04e12, 80e9),
    "A100": Peak(312e12, 19.5e12, 1.55e12, 40e9),
    "L40S": Peak(362e12, 91.6e12, 0.864e12, 48e9),
    "L4": Peak(121e12, 30.3e12, 0.3e12, 24e9),
    "TPU7x": Peak(2307e12, 2307e12 / 6, 7.37e12, 192 * 2**30),
    "TPU v6": _tpu(918e12, 1.64e12, 32, 1.75e9, 2, 256, 400e9, 128),
    "TPU v5 lite": _tpu(197e12, 0.819e12, 16, 1.5e9, 4, 128, 200e9, 128),
    "TPU v5e": _tpu(197e12, 0.819e12, 16, 1.5e9, 4, 128, 200e9, 128),
    "TPU v5": _tpu(459e12, 2.765e12, 95, 1.75e9, 8, 128, 600e9, 64),
    "TPU v4": _tpu(275e12, 1.23e12, 32, 1.05e9, 8, 128, 300e9, 16),
}


def peak(device_kind: str) -> Peak | None:
    """Returns the peaks of a device kind, as JAX names it, or None if unknown (as of all CPUs)."""
    for name, found in PEAKS.items():
        if name.lower() in device_kind.lower():
            return found
    return None


def peak_flops(device_kind: str, dtype: str) -> float | None:
    """Returns a device's peak FLOP/s in `float32` or `bfloat16`, or None where it is not known."""
    found = peak(device_kind)
    return None if found is None else getattr(found, dtype, None)
