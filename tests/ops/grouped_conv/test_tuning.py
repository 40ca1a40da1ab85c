"""Tuning on this machine: real measurements of tiny layers, within their time."""

import time

import pytest

from clef_jax.models import get_config
from clef_jax.ops.grouped_conv.choice import choose
from clef_jax.ops.grouped_conv.layers import Convolution, Layer
from clef_jax.ops.grouped_conv.passes import Passes
from clef_jax.ops.grouped_conv.tuning import BOTH, Finding, _best, tune

SMALL, LARGE = (Convolution(Layer(4, groups, 1, 16), 300, 4 * groups) for groups in (2, 6))


def test_layers_are_measured_by_their_work_and_get_nothing_slower():
    findings = list(tune([SMALL, LARGE, SMALL], views=2, dtype="float32", rounds=2))
    # The small one is there twice, with a third of the other's products.
    assert [finding.layer for finding in findings] == [LARGE.layer, SMALL.layer]
    assert [finding.share for finding in findings] == [pytest.approx(3 / 5), 1]
    for finding in findings:
        assert finding.usual == choose("cpu", "float32", finding.layer, 600)
        assert set(finding.seconds) == set(Passes._fields)
        for seconds in finding.seconds.values():
            assert {"conv:1", "conv:8"} <= seconds.keys() and min(seconds.values()) > 0
        assert finding.seconds_of(finding.best) <= finding.seconds_of(finding.usual)
        assert str(finding).startswith(str(finding.layer))


def test_nothing_is_begun_when_time_is_up():
    begin = time.monotonic()
    assert list(tune([SMALL, LARGE], views=2, dtype="float32", budget_s=0)) == []
    assert time.monotonic() - begin < 60


def test_another_algorithm_must_be_clearly_faster_and_shared_work_counts():
    usual = Passes.parse("native", "conv:1", "conv:2")
    seconds = {
        "forward": {"native": 1.00, "pack": 0.98},
        "input_gradient": {"conv:1": 1.0, "pack": 0.9, "fourier:24": 1.2},
        "kernel_gradient": {"conv:2": 1.0, "fourier:24": 1.1},
    }
    assert _best(usual, seconds) == Passes.parse("native", "pack", "conv:2")
    together = seconds | {BOTH: {"fourier:24": 1.8}}
    assert _best(usual, together) == Passes.parse("native", "fourier:24", "fourier:24")
    finding = Finding(SMALL.layer, usual, _best(usual, seconds), seconds, 1.0)
    assert finding.seconds_of(finding.usual) == pytest.approx(3.0)
    assert finding.seconds_of(finding.best) == pytest.approx(2.9)
    # A pass that there was no time for keeps what it has.
    del seconds["input_gradient"]
    assert _best(usual, seconds) == usual


@pytest.mark.parametrize("size", ["clef_small", "clef_medium", "clef_large"])
def test_a_size_has_the_convolutions_that_its_costs_have(size):
    config = get_config(size)
    costs = [
        cost.flops
        for cost in config.layer_costs(5000)
        if cost.name == "stem" or cost.name.endswith("conv2")
    ]
    found = list(config.convolutions(5000))
    assert [2 * convolution.multiplications for convolution in found] == costs
    assert len(found) == 1 + sum(config.stage_blocks)
    assert found[0] == Convolution(Layer(1, 1, 2, 16), 5000, config.stem_width)
