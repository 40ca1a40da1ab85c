"""What XLA's autotuner tries kernels for, counted in a program compiled for a GPU.

A device spends some 0.7 s on each distinct instruction, more than all the rest of compiling takes.
"""

import collections
import re
from collections.abc import Hashable

from benchmarks.aot import hlo

_KINDS = {
    "__cublas": "gemm",
    "__triton_gemm": "gemm",
    "__triton_nested_gemm_fusion": "gemm",
    "__cudnn$conv": "convolution",
}
# What equal instructions differ by: where they come from, and the kernel that was chosen.
_INCIDENTAL = re.compile(
    r', metadata=\{[^}]*\}|"(?:selected_algorithm|algo_id|scheduling_name)":"[^"]*"|%[\w.\-]+'
)


def count_autotuned(text: str) -> dict[str, int]:
    """Returns the number of distinct instructions by kind: gemm, convolution, fusion.

    Instructions are the same if types and layouts of operands and result, the attributes and, of a
    fusion, what it computes are, but for constants that are no whole numbers. Fusions are tuned
    only if `xla_gpu_experimental_enable_fusion_autotuner` is on.

    Args:
        text: The compiled program's, from `compiled.as_text()`.
    """
    module = hlo.parse(text)
    found = collections.defaultdict(set)
    for computation in module.computations.values():
        for operation in computation.values():
            if kind := _kind(operation):
                operands = tuple(computation[name].shapes for name in operation.operands)
                fused = operation.called if operation.opcode == "fusion" else []
                bodies = tuple(tuple(map(_described, _body(module, name))) for name in fused)
                found[kind].add((_described(operation), operands, bodies))
    return {kind: len(found[kind]) for kind in ("gemm", "convolution", "fusion")}


def _kind(operation: hlo.Operation) -> str | None:
    if operation.opcode not in ("custom-call", "fusion"):
        return None
    kinds = (kind for mark, kind in _KINDS.items() if mark in operation.attributes)
    return next(kinds, "fusion" if operation.opcode == "fusion" else None)


def _body(module: hlo.Module, name: str) -> list[hlo.Operation]:
    return list(module.computations[name].values())


def _described(operation: hlo.Operation) -> Hashable:
    """Returns all of an operation but names."""
    attributes = _INCIDENTAL.sub("", operation.attributes)
    return operation.opcode, operation.shapes, operation.value, attributes
