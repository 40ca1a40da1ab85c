import importlib.util
import pathlib
import re

import pytest

from clef_jax import hosts
from clef_jax.hardware import peaks, targets

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="libtpu is not installed: pip install 'clef-jax[aot]'",
)
has_cuda = any(importlib.util.find_spec(f"jax_cuda{n}_plugin") for n in (12, 13))
needs_cuda = pytest.mark.skipif(
    not has_cuda, reason="no CUDA plugin of JAX: pip install 'clef-jax[aot]'"
)


@pytest.mark.parametrize(
    "name", ["", "v5e", "v4:2x2", "v5e:2", "v5e:2x2x2x2", "b100", "tpu v5e:2x2"]
)
def test_an_unknown_name_is_refused_with_the_choices(name):
    with pytest.raises(targets.TargetError) as caught:
        targets.describe(name)
    message = str(caught.value)
    assert repr(name) in message
    assert all(choice in message for choice in ("v5e:2x2", "v5p:2x2x1", "v6e:4x4", "h100"))


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is not None, reason="libtpu is installed")
def test_without_libtpu_a_message_says_what_to_install():
    with pytest.raises(targets.TargetError, match=r"pip install 'clef-jax\[aot\]'.*'jax\[tpu\]'"):
        targets.describe("v5e:2x2")


@pytest.mark.skipif(has_cuda, reason="JAX's CUDA plugin is installed")
def test_without_the_cuda_plugin_a_message_says_what_to_install():
    with pytest.raises(
        targets.TargetError, match=r"CUDA plugin.*'clef-jax\[aot\]'.*'jax\[cuda12\]'"
    ):
        targets.describe("h100")


@needs_libtpu
@pytest.mark.parametrize(
    ("name", "kind", "devices", "gib"),
    [
        ("v5e:2x2", "TPU v5 lite", 4, 16),
        ("v5e:4x8", "TPU v5 lite", 32, 16),
        ("v6e:4x4", "TPU v6 lite", 16, 32),
        ("v5p:2x2x1", "TPU v5", 4, 95),
    ],
)
def test_a_slice_has_its_devices(name, kind, devices, gib):
    target = targets.describe(name)
    assert target.platform == "tpu"
    assert hosts.data_mesh(target.devices).size == devices
    assert target.device_kind == kind
    assert 0.95 * gib < targets.memory(target) / 2**30 < gib
    # Each description has devices of its own.
    assert list(map(str, targets.describe(name, 2).devices)) == list(map(str, target.devices[:2]))
    with pytest.raises(targets.TargetError, match=f"has {devices} devices, but 64 are asked for"):
        targets.describe(name, 64)


@needs_libtpu
def test_a_slice_of_several_hosts_says_so():
    processes = {device.process_index for device in targets.describe("v5e:4x8").devices}
    assert len(processes) > 1


@needs_libtpu
def test_a_shape_that_there_is_not_is_told_plainly():
    with pytest.raises(targets.TargetError, match="v5e:3x7: libtpu does not know this slice"):
        targets.describe("v5e:3x7")


@needs_cuda
def test_an_h100_is_described_by_its_vendors_numbers():
    target = targets.describe("h100")
    assert (target.platform, len(target.devices)) == ("cuda", 1)
    assert "H100" in target.device_kind
    assert len(targets.describe("h100", 8).devices) == 8


def test_a_plugin_that_fails_is_told_plainly(monkeypatch):
    def fail(**options):
        raise RuntimeError("no PJRT_TopologyDescription_Create")

    monkeypatch.setattr(targets.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(targets.topologies, "get_topology_desc", fail)
    with pytest.raises(targets.TargetError, match="h100: JAX's CUDA plugin .*no PJRT_Topology"):
        targets.describe("h100")


def test_an_h100_has_as_much_memory_as_its_description_says():
    description = pathlib.Path(targets.__file__).with_name("h100.txtpb").read_text()
    (size,) = re.findall(r"device_memory_size: (\d+)", description)
    assert peaks.peak("NVIDIA H100 80GB HBM3").capacity == int(size)


@pytest.mark.parametrize(
    ("kind", "bfloat16", "gigabytes_per_s", "clock"),
    [("TPU v5 lite", 197e12, 819, 1.5e9), ("TPU v5", 459e12, 2765, 1.75e9),
     ("TPU v6 lite", 918e12, 1640, 1.75e9), ("TPU v4", 275e12, 1230, 1.05e9)],
)  # fmt: skip
def test_peaks_of_tpus_agree_with_their_matrix_units(kind, bfloat16, gigabytes_per_s, clock):
    """A row of a whole number of cycles, or half a one: what the hardware can be."""
    peak = peaks.peak(kind)
    assert (peak.bfloat16, peak.memory) == (bfloat16, gigabytes_per_s * 1e9)
    assert peak.tpu.clock_hz == clock
    rows_per_cycle = peak.tpu.rows_hz / clock
    assert rows_per_cycle == pytest.approx(round(rows_per_cycle), rel=0.01)
