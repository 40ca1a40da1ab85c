"""Compiles the training step before anything runs, for devices that need not be here."""

import dataclasses
import re
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from clef_jax import models
from clef_jax.errors import ClefError
from clef_jax.methods.options import Options
from clef_jax.train.program import StepProgram, join, views_of_shards

_RAN_OUT = re.compile(r"Used ([\d.]+)([KMGT]) of ([\d.]+)([KMGT]) hbm")
# Characters of a compiler's reason: its second line may hold an instruction of some thousands.
_REASON = 1000
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class DoesNotCompile(ClefError):
    """A step that the compiler refuses; the message has the compiler's first lines."""


class DoesNotFit(ClefError):
    """A step that needs more memory than a chip has.

    Attributes:
        needed: Bytes of a chip that it needs, as the compiler says.
        available: Bytes that there are.
    """

    def __init__(self, batch_size: int, needed: int, available: int):
        super().__init__(
            f"a global batch of {batch_size} does not fit: it needs {needed / 2**30:.1f} GiB of "
            f"each chip, which has {available / 2**30:.1f}; use a smaller batch, remat or more "
            "chips"
        )
        self.needed, self.available = needed, available


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes of one chip, by the compiler.

    Attributes:
        arguments: State, batch and constants.
        outputs: State and metrics.
        reused: Of the arguments, what outputs take the place of.
        temporaries: Everything between.
        code: The program itself.
    """

    arguments: int
    outputs: int
    reused: int
    temporaries: int
    code: int

    @property
    def total(self) -> int:
        """Bytes that are taken at once."""
        return self.arguments + self.outputs - self.reused + self.temporaries + self.code


@dataclasses.dataclass(frozen=True)
class CompiledStep:
    """A compiled step.

    Attributes:
        executable: Jax's, to run or to read.
        lower_seconds: Tracing and lowering it took.
        compile_seconds: Compiling it took.
        memory: Of one chip.
        flops: Operations of one chip by XLA's count, which enters no loop twice.
    """

    executable: Any
    lower_seconds: float
    compile_seconds: float
    memory: Memory
    flops: float


def make_program(
    model: str,
    method: Options,
    mesh: Mesh,
    *,
    dtype: str,
    remat: bool,
    optimizer: optax.GradientTransformation,
    noise: np.ndarray,
    samples: int,
    seed: int = 0,
    ema_decay: float | None = None,
    shard_state: bool = False,
    rows_at_once: int = 0,
) -> StepProgram:
    """Returns the step that teaches an encoder on the devices of a mesh.

    Args:
        model: Name of the encoder.
        method: Its method's options.
        mesh: From `hosts.data_mesh`, of this machine's devices or of described ones.
        dtype: Type of the encoder's products.
        remat: Whether blocks are computed anew in the backward pass.
        optimizer: From `train.optim`.
        noise: The bank `[4, leads, M]`; of described devices only its shape matters.
        samples: Samples of a view.
        seed: Of the weights and of the rows' random draws.
        ema_decay: Decay of the moving average of the weights, if there is one.
        shard_state: Whether the state is split over the devices.
        rows_at_once: Rows that a device encodes at once, 0 for all.
    """
    encoder = models.create_model(model, dtype=jnp.dtype(dtype), remat=remat)
    taught_by = method.create(encoder, noise)
    return join(
        taught_by,
        optimizer,
        mesh,
        samples=samples,
        batch=views_of_shards(samples, taught_by.needs),
        seed=seed,
        ema_decay=ema_decay,
        shard_state=shard_state,
        rows_at_once=rows_at_once,
    )


def compile_step(
    program: StepProgram, batch_size: int, compiler_options: Mapping[str, Any] | None = None
) -> CompiledStep:
    """Compiles a step at a global batch size.

    Args:
        program: The step.
        batch_size: Records of all chips together.
        compiler_options: Of XLA, besides the step's own.

    Raises:
        DoesNotFit: The compiler finds that a chip's memory does not suffice. Those of GPUs do not
            look.
        DoesNotCompile: The compiler fails for any other reason.
    """
    begin = time.perf_counter()
    lowered = program.step.lower(*program.arguments(batch_size))
    lower_seconds = time.perf_counter() - begin
    begin = time.perf_counter()
    try:
        executable = lowered.compile(compiler_options=dict(compiler_options or {}))
    except jax.errors.JaxRuntimeError as error:
        if (found := _RAN_OUT.search(str(error))) is None:
            # The first line may be no more than a name for what the second tells.
            told = [line.strip() for line in str(error).splitlines() if line.strip()][:2]
            reason = " ".join(told)[:_REASON] or "it does not say why"
            raise DoesNotCompile(
                f"a global batch of {batch_size} does not compile for "
                f"{program.mesh.devices.flat[0].device_kind}: {reason}"
            ) from error
        used, unit, limit, limit_unit = found.groups()
        raise DoesNotFit(
            batch_size, int(float(used) * _UNITS[unit]), int(float(limit) * _UNITS[limit_unit])
        ) from None
    compile_seconds = time.perf_counter() - begin
    return CompiledStep(
        executable,
        lower_seconds,
        compile_seconds,
        _memory(executable),
        float((executable.cost_analysis() or {}).get("flops", 0.0)),
    )


def _memory(executable: Any) -> Memory:
    found = executable.memory_analysis()
    return Memory(
        arguments=found.argument_size_in_bytes,
        outputs=found.output_size_in_bytes,
        reused=found.alias_size_in_bytes,
        temporaries=found.temp_size_in_bytes,
        code=found.generated_code_size_in_bytes,
    )


def largest_batch(program: StepProgram, batch_size: int, memory: Memory, available: float) -> int:
    """Returns the largest batch whose memory fits, reckoned from what one batch needs.

    Temporaries but for the gradients grow with the batch, and everything else stays. Where memory
    is nearly full, compilers begin to save some, so a little more may fit than this says; compile
    the answer to be sure of it.

    Args:
        program: The step.
        batch_size: The global batch that was compiled.
        memory: What it needs of each chip.
        available: Bytes of a chip.

    Returns:
        A multiple of the program's, or 0 if not even that fits.
    """
    state, batch, _ = program.arguments(batch_size)
    rows = _bytes(batch) / program.mesh.size
    growing = max(memory.temporaries - _bytes(state.params), 0) + rows
    per_chip = (available - (memory.total - growing)) / (growing / batch_size)
    return max(int(per_chip) // program.multiple * program.multiple, 0)


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
