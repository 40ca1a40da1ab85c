"""The fast memory that kernels are planned for, by device kind."""

import jax
import pytest

from clef_jax import hosts
from clef_jax.hardware import peaks
from clef_jax.ops import vmem

MIB = 2**20


@pytest.mark.parametrize(
    ("kind", "mib"),
    [
        ("TPU v5 lite", 128),
        ("TPU v6 lite", 128),
        ("TPU v5", 64),
        ("TPU v5p", 64),
        # What is not known to be another's is planned for the smallest.
        ("", 64),
        ("cpu", 64),
        ("NVIDIA H100 80GB HBM3", 64),
        # Too small, or never compiled for.
        ("TPU v4", 0),
        ("TPU v3", 0),
        ("TPU7x", 0),
    ],
)
def test_capacity(kind, mib):
    assert vmem.capacity(kind) == mib * MIB


def test_a_generation_too_small_for_kernels_is_known_as_such():
    core = peaks.PEAKS["TPU v4"].tpu
    assert core is not None and core.vmem == 16 * MIB


def test_the_kind_is_the_traced_mesh_s():
    assert vmem.device_kind() == ""
    kinds = []

    def trace(x):
        kinds.append(vmem.device_kind())
        return x

    spec = jax.sharding.PartitionSpec()
    jax.eval_shape(jax.shard_map(trace, mesh=hosts.data_mesh(), in_specs=spec, out_specs=spec), 0.0)
    assert kinds[-1] == jax.devices()[0].device_kind
