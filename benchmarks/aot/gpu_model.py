"""The time of each kernel of a program compiled for a GPU, modelled by its bytes and FLOPs.

A compiler that has no device times nothing, and says of cuBLAS' and cuDNN's kernels only that they
are called. So every kernel is taken to move its bytes and do its products as fast as the device
was measured to do either: what comes out is a lower bound that compares programs. Where both are
known, a step took 1.65 times as long as modelled.
"""

from collections.abc import Iterator

from benchmarks.aot.costs import Cost
from benchmarks.aot.flops import flops
from benchmarks.aot.hlo import Execution, Module, Operation, executions
from benchmarks.aot.traffic import main_memory, moved

# FLOP/s in bfloat16 and bytes/s that an H100 reached (`benchmarks.ceilings`, on a device).
REACHED = {"H100": (748e12, 2.37e12)}
_LAUNCH_SECONDS = 2e-6
_LIBRARIES = ("__cublas", "__cudnn")


def costs(module: Module, device_kind: str) -> list[Cost]:
    """Returns the cost of every kernel that a program runs.

    Args:
        module: The compiled program.
        device_kind: As JAX names it.

    Raises:
        ValueError: What the device reaches was never measured.
    """
    for name, (flops_per_s, bytes_per_s) in REACHED.items():
        if name in device_kind:
            return list(_costs(module, flops_per_s, bytes_per_s))
    raise ValueError(f"no measured ceilings of {device_kind}; there are those of {list(REACHED)}")


def _costs(module: Module, flops_per_s: float, bytes_per_s: float) -> Iterator[Cost]:
    for run in executions(module):
        operation = run.operation
        if operation.opcode.endswith(("-done", "-update")):
            continue
        products = run.times * flops(module, operation, run.computation)
        amount = run.times * _bytes(module, run)
        yield Cost(
            operation,
            run.times,
            compute_seconds=products / flops_per_s,
            bytes=amount,
            memory_seconds=amount / bytes_per_s,
            known=run.known,
            overhead_seconds=run.times * _LAUNCH_SECONDS,
            flops=products,
        )


def _bytes(module: Module, run: Execution) -> int:
    if not is_library_call(run.operation):
        return sum(moved(module, run))
    # Besides its result, a library's call returns a workspace, which it need not fill.
    names = dict.fromkeys(run.operation.operands)
    read = sum(main_memory(s) for name in names for s in run.computation[name].shapes)
    return read + main_memory(run.operation.shapes[0])


def is_library_call(operation: Operation) -> bool:
    """Returns whether an operation calls cuBLAS or cuDNN."""
    target = operation.attribute(r'custom_call_target="([^"]+)"') or ""
    return target.startswith(_LIBRARIES)
