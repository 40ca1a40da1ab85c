"""Tuning on this machine: real measurements of tiny layers, within their time."""

import itertools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clef_jax.models import get_config
from clef_jax.ops.grouped_conv import tuning
from clef_jax.ops.grouped_conv.choice import choose
from clef_jax.ops.grouped_conv.layers import Convolution, Layer
from clef_jax.ops.grouped_conv.passes import Passes
from clef_jax.ops.grouped_conv.tuning import BOTH, Finding, _best, tune

SMALL, LARGE = (Convolution(Layer(4, groups, 1, 16), 300, 4 * groups) for groups in (2, 6))
LEAST = Convolution(Layer(1, 1, 1, 2), 16, 1)


@pytest.fixture
def compiled():
    """The compilations since."""
    events = []

    def listen(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            events.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    return events


@pytest.mark.slow
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


def test_the_least_layer_is_measured_in_every_pass():
    (finding,) = tune([LEAST], views=2, dtype="float32", rounds=1)
    assert set(finding.seconds) == set(Passes._fields) and finding.share == 1
    assert all(len(seconds) > 1 for seconds in finding.seconds.values())
    assert finding.seconds_of(finding.best) <= finding.seconds_of(finding.usual)


@pytest.mark.parametrize("asked", [0, 3, 25])
def test_nothing_is_begun_when_time_is_up_and_no_layer_is_half_done(asked, monkeypatch, compiled):
    """By a clock that goes on whenever it is asked."""
    clock = itertools.count()
    monkeypatch.setattr(tuning, "time", types.SimpleNamespace(monotonic=clock.__next__))
    assert list(tune([LEAST], views=2, dtype="float32", rounds=1, budget_s=asked)) == []
    assert len(compiled) <= asked
    assert bool(compiled) == (asked == 25)


def test_what_does_not_run_is_left_out():
    def fail(x):
        raise MemoryError

    def failing(x):
        return jax.pure_callback(fail, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    x = jnp.ones(3)
    programs = {n: jax.jit(f).lower(x).compile() for n, f in {"a": failing, "b": jnp.sin}.items()}
    assert tuning._that_run(programs, (x,), np.inf) == {"b": programs["b"]}


def test_layers_that_kernels_compute_are_left_to_them(monkeypatch):
    """On a TPU, as far as this process knows; nothing is computed."""
    monkeypatch.setattr(tuning, "platform", lambda: "tpu")
    monkeypatch.setattr(tuning, "chosen", lambda *_: {"tpu": Passes.parse("kernel")})
    assert list(tune([SMALL, LARGE], views=128, dtype="bfloat16")) == []


@pytest.mark.parametrize("size", ["clef_small", "clef_medium"])
def test_without_tuning_a_layer_has_what_a_step_has(size):
    for convolution in set(get_config(size).convolutions(5000)):
        expected = choose(
            "cpu", "bfloat16", convolution.layer, 2 * convolution.outputs, device_kind="cpu"
        )
        assert tuning._usual([convolution], 2, "bfloat16") == expected


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
