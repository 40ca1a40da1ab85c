import dataclasses

import jax
import numpy as np
import pytest

from benchmarks.programs import made_up_batch
from clef_jax import hosts, models
from clef_jax.methods import read_options
from clef_jax.models import registry
from clef_jax.train import ahead, check, optim
from clef_jax.train.settings import ConfigError
from configs import demo
from tests.train.runs import TINY

SAMPLES = 5000
NOISE = np.zeros((4, 15, 6000), np.float32)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(registry._CONFIGS, "clef_small", TINY)


def program(devices=1, **options):
    chosen = {
        "dtype": "float32",
        "remat": False,
        "optimizer": optim.make_optimizer(optim.warm_restarts(1e-4, steps_per_epoch=10)),
        "noise": NOISE,
        "samples": SAMPLES,
    } | options
    mesh = hosts.data_mesh(jax.devices()[:devices])
    return ahead.make_program("clef_small", read_options({"name": "clef"}), mesh, **chosen)


def shapes_of(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


def test_shapes_are_those_of_real_arguments():
    made = program(ema_decay=0.9)
    state, batch, constants = made.arguments(8)
    assert shapes_of(batch) == shapes_of(made_up_batch(8))
    assert shapes_of(state) == shapes_of(jax.jit(made.initial)())
    assert shapes_of(constants) == {"noise": (NOISE.shape, NOISE.dtype)}


@pytest.mark.slow
def test_what_is_compiled_runs_and_learns():
    made = program()
    compiled = ahead.compile_step(made, 8)
    state = jax.jit(made.initial, out_shardings=hosts.replicated(made.mesh))()
    batch = hosts.to_devices(made_up_batch(8), made.mesh)
    constants = hosts.replicate(made.method.constants, made.mesh)
    losses = []
    for _ in range(5):
        state, metrics = compiled.executable(state, batch, constants)
        losses.append(float(metrics["loss"]))
    assert int(state.step) == 5 and np.isfinite(losses).all()
    assert compiled.lower_seconds > 0 and compiled.compile_seconds > 0


@pytest.mark.slow
def test_memory_holds_its_arguments():
    made = program()
    memory = ahead.compile_step(made, 8).memory
    state, batch, constants = made.arguments(8)
    size = sum(
        leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves((state, batch, constants))
    )
    assert memory.arguments == pytest.approx(size, rel=0.01)
    # The state is consumed, and metrics are all that is added to it.
    assert 0 <= memory.outputs - memory.reused < 1000
    assert memory.total >= memory.arguments + memory.temporaries


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 4])
def test_the_largest_batch_is_one_that_needs_what_there_is(devices):
    made = program(devices)
    small, large = (ahead.compile_step(made, batch).memory for batch in (16, 64))
    found = ahead.largest_batch(made, 16, small, large.total)
    assert found % devices == 0
    assert found == pytest.approx(64, rel=0.1)
    assert ahead.largest_batch(made, 16, small, small.arguments // 2) == 0


def test_what_a_compiler_says_of_memory_is_told_plainly(monkeypatch):
    made = program()

    class Lowered:
        def compile(self, compiler_options):
            raise jax.errors.JaxRuntimeError(
                "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory "
                "space hbm. Used 20.38G of 15.75G hbm. Exceeded hbm capacity by 4.60G."
            )

    lowering = dataclasses.replace(made, step=type("Step", (), {"lower": lambda *_: Lowered()})())
    with pytest.raises(ahead.DoesNotFit) as caught:
        ahead.compile_step(lowering, 512)
    assert caught.value.needed == int(20.38 * 2**30)
    assert caught.value.available == int(15.75 * 2**30)
    assert "batch of 512 does not fit: it needs 20.4 GiB of each chip, which has 15.8" in str(
        caught.value
    )


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        (
            "RESOURCE_EXHAUSTED: Used 28.73M of 16.00M vmem.\n\nProgram vmem requirement 28.73M:\n"
            "    reserved 12.00K",
            r"RESOURCE_EXHAUSTED: Used 28.73M of 16.00M vmem. Program vmem requirement 28.73M:$",
        ),
        (
            "RESOURCE_EXHAUSTED: E1001: CompileTimeScopedVmemOom:\nRan out of memory in memory "
            "space vmem while allocating on stack for %kernel_gradient.71 = " + "f32[64,48]" * 1000,
            r"RESOURCE.*ScopedVmemOom: Ran out of memory .* for %kernel_gradient.71 = f32.{,900}$",
        ),
        ("", "it does not say why$"),
    ],
)
def test_what_else_a_compiler_refuses_is_told_plainly(reason, told):
    made = program()

    class Lowered:
        def compile(self, compiler_options):
            raise jax.errors.JaxRuntimeError(reason)

    lowering = dataclasses.replace(made, step=type("Step", (), {"lower": lambda *_: Lowered()})())
    with pytest.raises(
        ahead.DoesNotCompile, match=f"batch of 512 does not compile for cpu: {told}"
    ):
        ahead.compile_step(lowering, 512)


@pytest.mark.parametrize(
    ("batch", "capacity", "compiled", "largest", "tried"),
    [
        # Halved until it compiles, then what that one extrapolates to, in whole lanes of 128.
        (512, 511, 256, 384, [512, 256, 384]),
        (2048, 100, 64, 100, [2048, 1024, 512, 256, 128, 64, 100]),
        (100, 300, 100, 256, [100, 256]),
        (384, 400, 384, 384, [384]),
        (130, 200, 130, 130, [130]),
        (6, 2, 2, 2, [6, 2]),
        (6, 1, None, 0, [6, 2]),
    ],
)
def test_the_batch_that_fits_is_found_where_the_runs_does_not(
    monkeypatch, batch, capacity, compiled, largest, tried
):
    """By a TPU's compiler whose programs need a MiB a record of each of two chips."""
    from clef_jax.hardware import targets
    from clef_jax.train.data import advise_batch_size

    here, mib, asked = targets.Target("v5e:1x2", "tpu", jax.devices()[:2]), 1 << 20, []

    def compile_step(made, batch_size, options):
        asked.append(batch_size)
        if batch_size > capacity:
            raise ahead.DoesNotFit(batch_size, batch_size * mib, capacity * mib)
        state, rows, _ = made.arguments(batch_size)
        split = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(rows)) // 2
        gradients = sum(leaf.size * 4 for leaf in jax.tree.leaves(state.params))
        temporaries = batch_size * mib - split
        memory = ahead.Memory(split - gradients, 0, 0, temporaries + gradients, 0)
        return ahead.CompiledStep(None, 1.0, 2.0, memory, 0.0)

    monkeypatch.setattr(targets, "describe", lambda name: here)
    monkeypatch.setattr(targets, "memory", lambda target: capacity * mib)
    monkeypatch.setattr(ahead, "compile_step", compile_step)
    config = demo.get_config()
    config.update({"model": "clef_small", "batch_size": batch})
    report = check.check_run(config, "v5e:1x2")
    assert report["fits"] == (batch <= capacity)
    assert report.get("compiled_batch") == compiled
    assert (report["largest_batch"], report["largest_batch_compiled"]) == (largest, True)
    assert asked == tried
    assert report["advice"] == advise_batch_size(batch, 2, "tpu")
    assert (report["advice"] or "") in report["summary"]
    assert ("fits v5e" if batch <= capacity else "does not fit v5e") in report["summary"]
    assert (f"about {largest:,} (compiled" if largest else "no batch fits") in report["summary"]
    if largest > 128 and largest != batch:
        assert advise_batch_size(largest, 2, "tpu") is None


@pytest.mark.slow
def test_a_run_is_checked_with_the_devices_that_are_here(monkeypatch):
    """By the CPU's compiler, as described devices need theirs."""
    from clef_jax.hardware import targets

    here = targets.Target("v5e:2x2", "tpu", jax.devices()[:2])
    monkeypatch.setattr(targets, "describe", lambda name: here)
    monkeypatch.setattr(targets, "memory", lambda target: 2 << 30)
    config = demo.get_config()
    config.update({"model": "clef_small", "batch_size": 8})
    report = check.check_run(config, "v5e:2x2")
    assert report["fits"] and report["chips"] == 2
    assert report["largest_batch"] > 8 and report["largest_batch"] % 2 == 0
    assert report["memory_gib"] < report["available_gib"] == 2
    assert report["summary"].startswith(
        "clef_small at a global batch of 8 fits v5e:2x2 (2 chips): it needs "
    )
    config.batch_size = 9
    with pytest.raises(ConfigError, match="batch_size 9 does not divide by 2 devices; use 8 or 10"):
        check.check_run(config, "v5e:2x2")


def test_the_step_of_a_run_has_its_settings():
    from clef_jax.train.settings import read_settings

    config = demo.get_config()
    config.update({"model": "clef_small", "batch_size": 8, "ema_decay": 0.5})
    made = check.program_of_run(read_settings(config), hosts.data_mesh(jax.devices()[:1]))
    state, batch, constants = made.arguments(8)
    assert batch["ecg"].shape == (8, 2, 5000)
    assert constants["noise"].shape == (4, 12, 300_000)
    assert shapes_of(state.ema) == shapes_of(state.params)
    names = models.get_config("clef_small").stage_widths
    assert f"stage{len(names) - 1}_block0" in state.params["encoder"]
