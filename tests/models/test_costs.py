import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from clef_jax.hardware import peaks
from clef_jax.models import ResNeXt1DConfig, costs, get_config
from tests.oracles.torch_resnext1d import TorchResNeXt1D

TINY = ResNeXt1DConfig(
    name="tiny",
    stem_width=4,
    ratio=0.5,
    stage_widths=(4, 8),
    stage_blocks=(1, 2),
    group_width=2,
    kernel_size=3,
)


def test_a_tiny_encoder_costs_what_a_pencil_says():
    # 10 samples; the stem halves them to 5, the first stage to 3, the second to 2.
    stem = 5 * 3 * 1 * 4
    # Width 4, middle 2, two groups of one channel; the pointwise ones before and after the stride.
    first = 5 * 4 * 2 + 3 * 3 * 1 * 2 + 3 * 2 * 4 + (4 * 2 + 2 * 4)
    # Width 8, middle 4, four groups of one channel.
    second = 3 * 4 * 4 + 2 * 3 * 1 * 4 + 2 * 4 * 8 + (8 * 4 + 4 * 8)
    third = 2 * 8 * 4 + 2 * 3 * 1 * 4 + 2 * 4 * 8 + (8 * 4 + 4 * 8)
    assert costs.forward_flops(TINY, 10) == 2 * (stem + first + second + third)
    assert costs.train_flops(TINY, 10) == 6 * costs.forward_flops(TINY, 10)


@pytest.mark.parametrize("name", ["clef_small", "clef_medium", "clef_large"])
@pytest.mark.parametrize("samples", [5000, 1001])
def test_pytorch_counts_the_same_operations(name, samples):
    with torch.device("meta"):
        model, x = TorchResNeXt1D(get_config(name)), torch.empty(1, 1, samples)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x)
    assert costs.forward_flops(get_config(name), samples) == counter.get_total_flops()


@pytest.mark.parametrize(
    "name, expected",
    [("clef_small", 443_184), ("clef_medium", 30_587_632), ("clef_large", 296_301_312)],
)
def test_every_parameter_is_counted(name, expected):
    layers = get_config(name).layer_costs(5000)
    assert sum(layer.parameters for layer in layers) == expected


@pytest.mark.parametrize("itemsize", [2, 4])
def test_memory_traffic_is_a_line_in_the_batch(itemsize):
    batches = np.array([1, 2, 7, 64])
    moved = [costs.train_bytes(TINY, 10, int(b), itemsize) for b in batches]
    slope = moved[1] - moved[0]
    assert moved == [moved[0] + slope * (b - 1) for b in batches]
    # Parameters, of which there is one set a step: read twice, gradient written, AdamW 4 + 3.
    parameters = sum(layer.parameters for layer in TINY.layer_costs(10))
    assert moved[0] - slope == 40 * parameters
    # Two views, three passes; the stem's share alone reads 10 and writes 5 x 4.
    elements = sum(layer.elements for layer in TINY.layer_costs(10))
    assert slope == 6 * itemsize * elements
    assert next(TINY.layer_costs(10)).elements == 10 + 5 * 4


def test_a_layer_takes_the_longer_of_arithmetic_and_memory():
    arithmetic = 4 * costs.train_flops(TINY, 10)
    memory = costs.train_bytes(TINY, 10, 4, 2)

    def seconds(flops_per_s, bytes_per_s):
        return costs.roofline_seconds(
            TINY, 10, 4, 2, flops_per_s=flops_per_s, bytes_per_s=bytes_per_s
        )

    assert seconds(1.0, 1e30) == pytest.approx(arithmetic)
    assert seconds(1e30, 1.0) == pytest.approx(memory)
    # Between the two, some layers are bound by one and some by the other.
    balanced = seconds(1.0, memory / arithmetic)
    assert arithmetic < balanced < 2 * arithmetic


def test_the_more_specific_device_is_found_first():
    assert peaks.peak_flops("NVIDIA H100 PCIe", "bfloat16") == 756e12
    assert peaks.peak_flops("NVIDIA H100 80GB HBM3", "bfloat16") == 989e12
    assert peaks.peak_flops("TPU v5 lite", "bfloat16") == 197e12
    assert peaks.peak_flops("NVIDIA H100 80GB HBM3", "float32") == 67e12
    assert peaks.peak_flops("TPU v5 lite", "float32") == pytest.approx(197e12 / 6)
    assert peaks.peak_flops("AMD EPYC", "float32") is None
