"""Compiles one training step for devices that are not here, in a process of its own.

    python -m benchmarks.aot.worker '{"size": "clef_small", …}'

A compiler reads its flags once, when it is loaded, so every compilation has its process. Writes
the compiled program's text and what compiling said into a folder; `compile_case` runs it.
"""

import contextlib
import dataclasses
import importlib
import importlib.util
import inspect
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

_ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


@dataclasses.dataclass(frozen=True)
class Case:
    """A step to compile.

    Attributes:
        target: As `targets.describe` takes it.
        chips: How many devices of it.
        size: Name of the encoder.
        batch: Records of the global batch.
        dtype: Type of the encoder's products.
        remat: Whether blocks are computed anew in the backward pass.
        convolutions: "rule", the package's own choice, or "plain", XLA's own everywhere.
        source: Root of the clone whose package is compiled.
    """

    target: str
    chips: int
    size: str
    batch: int
    dtype: str = "bfloat16"
    remat: bool = False
    convolutions: str = "rule"
    source: str = os.fspath(_ROOT)


class CompileError(RuntimeError):
    """A step that did not compile; the message is the compiler's."""


def compile_case(case: Case, folder: pathlib.Path, *, dump_flags: dict[str, str]) -> dict[str, Any]:
    """Compiles a step in a process of its own.

    Args:
        case: Which.
        folder: Where `step.hlo` and `facts.json` go.
        dump_flags: Environment of that process, from `predict.dump_flags`; or none.

    Returns:
        The facts: seconds, bytes and FLOPs by name.

    Raises:
        CompileError: It failed; for want of memory too.
    """
    command = [sys.executable, "-m", "benchmarks.aot.worker", json.dumps(dataclasses.asdict(case))]
    environment = os.environ | {
        # The compilers of described devices need none of this machine's, and no cache.
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_COMPILATION_CACHE": "false",
        "PYTHONPATH": os.fspath(_ROOT),
    }
    done = subprocess.run(
        [*command, os.fspath(folder)],
        env=environment | dump_flags, cwd=_ROOT, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    facts = folder / "facts.json"
    if done.returncode or not facts.exists():
        raise CompileError((done.stderr.strip().splitlines() or ["no message"])[-1])
    return json.loads(facts.read_text())


def _main(case: Case, folder: pathlib.Path) -> None:
    _import_package(pathlib.Path(case.source))
    from benchmarks.programs import describe_program
    from clef_jax import hosts
    from clef_jax.hardware import targets
    from clef_jax.train import ahead

    target = targets.describe(case.target, case.chips)
    mesh = hosts.data_mesh(target.devices)
    program = describe_program(case.size, mesh, dtype=case.dtype, remat=case.remat)
    begin = _cpu_seconds()
    with _convolutions(case.convolutions, target.platform):
        compiled = ahead.compile_step(program, case.batch, target.compiler_options)
    (folder / "step.hlo").write_text(compiled.executable.as_text())
    available = targets.memory(target)
    facts = {
        "device_kind": target.device_kind,
        "lower_seconds": compiled.lower_seconds,
        "compile_seconds": compiled.compile_seconds,
        "cpu_seconds": _cpu_seconds() - begin,
        "xla_flops": compiled.flops,
        **{f"{k}_bytes": v for k, v in dataclasses.asdict(compiled.memory).items()},
        "memory_bytes": compiled.memory.total,
        "fits": compiled.memory.total <= available,
        "largest_batch": ahead.largest_batch(program, case.batch, compiled.memory, available),
    }
    (folder / "facts.json").write_text(json.dumps(facts))


def _cpu_seconds() -> float:
    """Returns what tracing and compilers have taken of all cores; others' load does not count."""
    return sum(os.times()[:4])


# What clones lack, or have less of, that are older than the compilation ahead of time.
_NEWER = (
    "hosts", "hardware.peaks", "hardware.targets",
    "train.placement", "train.program", "train.ahead",
)  # fmt: skip


def _import_package(source: pathlib.Path) -> None:
    """Imports `clef_jax` from a clone, and from this one what an older clone lacks."""
    sys.path.insert(0, os.fspath(source))
    importlib.import_module("clef_jax")
    sys.path.pop(0)
    if (source / "clef_jax" / "train" / "ahead.py").exists():
        return
    step = importlib.import_module("clef_jax.train.step")
    make_train_step = step.make_train_step

    def make_whole(*arguments: Any, shardings: Any, rows_at_once: int, **options: Any) -> Any:
        # Every device has all of the state, and encodes all of its rows at once.
        del shardings, rows_at_once
        return make_train_step(*arguments, **options)

    step.make_train_step = make_whole
    for module in _NEWER:
        name = f"clef_jax.{module}"
        path = _ROOT.joinpath(*name.split(".")).with_suffix(".py")
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        found = importlib.util.module_from_spec(spec)
        sys.modules[name] = found
        parent, _, last = name.rpartition(".")
        setattr(importlib.import_module(parent), last, found)
        spec.loader.exec_module(found)


@contextlib.contextmanager
def _convolutions(kind: str, platform: str) -> Iterator[None]:
    """Lowers grouped convolutions as a host of the platform would, or as XLA's own."""
    import jax

    from clef_jax.ops.grouped_conv import choice, conv, passes

    if hasattr(choice, "using"):
        rules = importlib.import_module("clef_jax.ops.grouped_conv.rules")
        with choice.using(rules.PLAIN) if kind == "plain" else contextlib.nullcontext():
            yield
        return
    # Up to the commit that made the choice follow the platform, it asked this process's backend.
    assert "default_backend" in inspect.getsource(conv)
    backend = {"tpu": "tpu", "cuda": "gpu"}[platform]
    kept = jax.default_backend, conv.choose
    native = choice.Passes(*[passes.Algorithm("native")] * 3)
    jax.default_backend = lambda: backend
    if kind == "plain":
        conv.choose = lambda *arguments: native
    yield
    jax.default_backend, conv.choose = kept


if __name__ == "__main__":
    _main(Case(**json.loads(sys.argv[1])), pathlib.Path(sys.argv[2]))
