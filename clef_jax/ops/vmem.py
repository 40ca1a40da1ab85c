"""How much a kernel of our own may keep in a TPU core's fast memory (VMEM)."""

import jax

from clef_jax.hardware import peaks

# Of a v5p. Our kernels are compiled for it and for v5e and v6e, which have twice as much; those
# before have a quarter of it, too little for what the kernels gain by.
_LEAST = 64 * 2**20


def capacity(device_kind: str) -> int:
    """Returns the bytes of VMEM to plan kernels for.

    Args:
        device_kind: As JAX names the device. "" where it is not known, and a device that is no TPU
            where a program is lowered for TPU beside others, stand for the smallest TPU that our
            kernels are compiled for.

    Returns:
        Bytes of one core; 0 for a TPU that is unknown or has less than that smallest one, where
        nothing of ours is to be used.
    """
    if "TPU" not in device_kind:
        return _LEAST
    found = peaks.peak(device_kind)
    if found is None or found.tpu is None or found.tpu.vmem < _LEAST:
        return 0
    return found.tpu.vmem


def device_kind() -> str:
    """Returns the kind of devices that a program is traced for, by its mesh, or "" without one."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return "" if device is None else device.device_kind
