"""The product's own training step, compiled and ready to run on made-up batches."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from clef_jax import hosts
from clef_jax.data.noise.simulated import simulate_noise_bank
from clef_jax.data.signals.leads import NOISE_LEADS
from clef_jax.data.signals.spec import CLEF_V2
from clef_jax.methods import read_options
from clef_jax.train import ahead, optim

DEFAULT_BATCHES = {
    "cpu": {"clef_small": 64, "clef_medium": 8, "clef_large": 8},
    "accelerator": {"clef_small": 1024, "clef_medium": 256, "clef_large": 64},
}


def default_batch(size: str) -> int:
    """Returns the records of a step that a size is measured at on this backend."""
    kind = "cpu" if jax.default_backend() == "cpu" else "accelerator"
    return DEFAULT_BATCHES[kind][size]


def default_dtype() -> str:
    """Returns the type that a step is measured in on this backend where one is enough."""
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"


def made_up_batch(batch_size: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Returns a host batch as `data.batches.stream` makes it, with the risks that CLEF needs."""
    rng = np.random.default_rng(seed)
    return {
        "ecg": rng.integers(-30000, 30000, (batch_size, 2, CLEF_V2.samples), np.int16),
        "scale_mv": np.full((batch_size, 2), 5e-5, np.float32),
        "lead": rng.integers(0, 12, (batch_size, 2), np.int32),
        "risk": rng.uniform(1, 30, batch_size).astype(np.float32),
    }


@dataclasses.dataclass
class Program:
    """A compiled training step and what it runs on.

    Attributes:
        step: Runs one step and returns when it is done; the loss.
        run: (batch) -> loss, on a batch of its own, without waiting.
        compile_seconds: Duration of tracing and compiling.
        memory_bytes: Peak memory of one device: arguments, results and temporaries.
        flops: Operations of one device by XLA's count.
    """

    step: Callable[[], float]
    run: Callable[[dict[str, jax.Array]], jax.Array]
    compile_seconds: float
    memory_bytes: int
    flops: float


def describe_program(
    size: str, mesh: Mesh, *, dtype: str, remat: bool = False, noise: np.ndarray | None = None
) -> ahead.StepProgram:
    """Returns the step of one size, by the published recipe, for the devices of a mesh.

    Args:
        size: Name of the encoder.
        mesh: Devices, which need not be here.
        dtype: Type of the encoder's products.
        remat: Whether blocks are computed anew in the backward pass.
        noise: The bank; by default of a minute, with nothing in it.
    """
    if noise is None:
        noise = np.broadcast_to(np.float32(0), (4, len(NOISE_LEADS), round(60 * CLEF_V2.fs)))
    return ahead.make_program(
        size,
        read_options({"name": "clef"}),
        mesh,
        dtype=dtype,
        remat=remat,
        optimizer=optim.make_optimizer(optim.warm_restarts(1e-4, steps_per_epoch=1000)),
        noise=noise,
        samples=CLEF_V2.samples,
    )


def make_program(
    size: str, batch_size: int, *, dtype: str, remat: bool = False, devices: int | None = None
) -> Program:
    """Returns the step of one size at a global batch size on the first `devices` devices."""
    mesh = hosts.data_mesh(jax.devices()[:devices])
    noise = simulate_noise_bank(0, 60.0, CLEF_V2.fs).signal
    program = describe_program(size, mesh, dtype=dtype, remat=remat, noise=noise)
    compiled = ahead.compile_step(program, batch_size)
    constants = hosts.replicate(program.method.constants, mesh)
    batch = hosts.to_devices(made_up_batch(batch_size), mesh)
    initial = jax.jit(program.initial, out_shardings=program.shardings)
    carried: dict[str, Any] = {"state": initial()}

    def run(batch):
        carried["state"], metrics = compiled.executable(carried["state"], batch, constants)
        return metrics["loss"]

    return Program(
        step=lambda: float(run(batch)),
        run=run,
        compile_seconds=compiled.lower_seconds + compiled.compile_seconds,
        memory_bytes=compiled.memory.total - compiled.memory.code,
        flops=compiled.flops,
    )
