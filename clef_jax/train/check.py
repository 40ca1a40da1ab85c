"""Whether a run would fit devices that one does not own, told by their compiler."""

import dataclasses
import math
from typing import Any

import numpy as np
from jax.sharding import Mesh

from clef_jax import hosts, models
from clef_jax.data.signals.leads import STANDARD_LEADS
from clef_jax.data.signals.spec import CLEF_V2
from clef_jax.hardware import targets
from clef_jax.models import costs
from clef_jax.train import ahead
from clef_jax.train.data import FULL_LANES_RECORDS, advise_batch_size, require_divisible
from clef_jax.train.learner import make_optimizer
from clef_jax.train.settings import Configuration, RunSettings, read_settings

# The steps of an epoch and of a run are numbers in the program, and alter nothing of its cost.
_STEPS = 1000
# The noise bank's length is not known before it is read: the Noise Stress Test Database's, and
# that of one which is simulated.
_RECORDED_SECONDS, _SIMULATED_SECONDS = 1800, 600
_GIB = 2**30


def check_run(config: Configuration, target_name: str) -> dict[str, Any]:
    """Compiles the step of a run for described devices, with no shards and no folder.

    Signals are taken to be 12 leads preprocessed as CLEF's are.

    Args:
        config: As in `configs/`.
        target_name: As `targets.describe` takes it; all of its devices are used.

    Returns:
        The report: `fits`, `memory_gib` and `available_gib` of a chip; `largest_batch` and whether
        that was compiled too; of `compiled_batch`, the run's or, where that does not compile, the
        first of its halves that does, bytes, seconds to compile and FLOPs of a chip; `advice` for
        a batch that leaves a TPU's lanes empty; and `summary`, the answer in a sentence.

    Raises:
        ConfigError: A setting is impossible, by itself or with so many devices.
        TargetError: There are no such devices, or their compiler is not installed.
        DoesNotCompile: The compiler fails, and not for want of memory.
    """
    settings = read_settings(config)
    target = targets.describe(target_name)
    mesh = hosts.data_mesh(target.devices)
    batch = settings.data.batch_size
    require_divisible(batch, mesh, settings.encoder.rows_at_once)
    program = program_of_run(settings, mesh)
    available = targets.memory(target)
    encoder = models.get_config(settings.encoder.model)
    report = {
        "target": target_name,
        "device_kind": target.device_kind,
        "chips": mesh.size,
        "model": settings.encoder.model,
        "batch_size": batch,
        "available_gib": round(available / _GIB, 2),
        "useful_flops_per_chip": costs.train_flops(encoder, CLEF_V2.samples) * batch / mesh.size,
        "advice": advise_batch_size(batch, mesh.size, target.platform),
    }
    compiled: ahead.CompiledStep | None
    try:
        compiled = ahead.compile_step(program, batch, target.compiler_options)
    except ahead.DoesNotFit as error:
        report |= {"fits": False, "memory_gib": round(error.needed / _GIB, 2)}
        batch, compiled = _compile_less(program, batch, target)
    else:
        needed = compiled.memory.total
        report |= {"fits": needed <= available, "memory_gib": round(needed / _GIB, 2)}
    if compiled is None:
        report |= {"largest_batch": 0, "largest_batch_compiled": True}
    else:
        report |= {
            "compiled_batch": batch,
            "memory_bytes": dataclasses.asdict(compiled.memory),
            "lower_seconds": round(compiled.lower_seconds, 1),
            "compile_seconds": round(compiled.compile_seconds, 1),
            "compiled_flops_per_chip": compiled.flops or None,
            **_largest(program, batch, compiled.memory, target),
        }
    return report | {"summary": _summary(report)}


def program_of_run(settings: RunSettings, mesh: Mesh) -> ahead.StepProgram:
    """Returns the step of a run whose shards need not be here, on the devices of a mesh."""
    encoder, optimizing = settings.encoder, settings.optimizer
    optimizer, _ = make_optimizer(optimizing, steps_per_epoch=_STEPS, total_steps=_STEPS)
    seconds = _RECORDED_SECONDS if settings.data.noise else _SIMULATED_SECONDS
    noise_shape = (4, len(STANDARD_LEADS), round(seconds * CLEF_V2.fs))
    return ahead.make_program(
        encoder.model,
        settings.method,
        mesh,
        dtype=encoder.dtype,
        remat=encoder.remat,
        optimizer=optimizer,
        noise=np.broadcast_to(np.float32(0), noise_shape),
        samples=CLEF_V2.samples,
        seed=settings.seed,
        ema_decay=optimizing.ema_decay,
        shard_state=optimizing.shard_state,
        rows_at_once=encoder.rows_at_once,
    )


def _compile_less(
    program: ahead.StepProgram, batch: int, target: targets.Target
) -> tuple[int, ahead.CompiledStep | None]:
    """Returns the first half of half … of a batch that compiles, and its step; or 0 and None."""
    while batch := batch // 2 // program.multiple * program.multiple:
        try:
            return batch, ahead.compile_step(program, batch, target.compiler_options)
        except ahead.DoesNotFit:
            continue
    return 0, None


def _largest(
    program: ahead.StepProgram, batch: int, memory: ahead.Memory, target: targets.Target
) -> dict[str, Any]:
    """Returns the largest batch that fits, and whether compiling it bears that out."""
    available = targets.memory(target)
    largest = ahead.largest_batch(program, batch, memory, available)
    full = math.lcm(FULL_LANES_RECORDS * program.mesh.size, program.multiple)
    if target.platform == "tpu" and largest > full:
        # Not less than what is known to fit.
        largest = max(largest // full * full, batch if memory.total <= available else 0)
    fits = largest in (0, batch)
    if not fits:
        try:
            compiled = ahead.compile_step(program, largest, target.compiler_options)
            fits = compiled.memory.total <= available
        except ahead.DoesNotFit:
            pass
    return {"largest_batch": largest, "largest_batch_compiled": fits}


def _summary(report: dict[str, Any]) -> str:
    chips = "1 chip" if report["chips"] == 1 else f"{report['chips']} chips"
    text = (
        f"{report['model']} at a global batch of {report['batch_size']:,} "
        f"{'fits' if report['fits'] else 'does not fit'} {report['target']} ({chips}): it needs "
        f"{report['memory_gib']} of {report['available_gib']} GiB a chip"
    )
    if report["largest_batch"] == 0:
        text += "; no batch fits, not one record a chip: use remat or more chips"
    else:
        proof = "compiled, too" if report["largest_batch_compiled"] else "by extrapolation"
        text += f"; the largest batch that fits is about {report['largest_batch']:,} ({proof})"
    if "compiled_batch" in report:
        seconds = report["lower_seconds"] + report["compile_seconds"]
        text += f"; compiling {report['compiled_batch']:,} takes {seconds:.0f} s here"
    text += f"; {report['advice']}" if report["advice"] else ""
    return text + ". So the compiler says; nothing was run."
