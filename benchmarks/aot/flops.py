"""Operations of products and convolutions, a multiply-add counted as two."""

import math
import re

from benchmarks.aot.hlo import Computation, Module, Operation, executions

_LABELS = re.compile(r"dim_labels=(\w+)_(\w+)->(\w+)")


def flops(module: Module, operation: Operation, around: Computation) -> int:
    """Returns the FLOPs of one execution of an operation, of those it is fused from included.

    Zeros that a compiler stuffs into cuDNN's inputs count: the device multiplies them.

    Args:
        module: The program.
        operation: Any.
        around: The computation it stands in.
    """
    if operation.opcode in ("fusion", "call"):
        bodies = [module.computations[name] for name in operation.called]
        return sum(flops(module, inner, body) for body in bodies for inner in body.values())
    if operation.opcode == "dot":
        return _of_product(operation, around, r"lhs_contracting_dims=\{([\d,]*)\}")
    if operation.opcode == "convolution":
        return _of_convolution(operation, around)
    if operation.opcode != "custom-call":
        return 0
    target = operation.attribute(r'custom_call_target="([^"]+)"') or ""
    if target.startswith("__cublas"):
        return _of_product(operation, around, r'"lhs_contracting_dimensions":\[([^\]]*)\]')
    if target.startswith("__cudnn$conv"):
        return _of_library_convolution(target, operation, around)
    return 0


def total_flops(module: Module) -> int:
    """Returns the FLOPs of one execution of a program, its loops counted by their trips."""
    runs = executions(module)
    return sum(run.times * flops(module, run.operation, run.computation) for run in runs)


def _of_product(operation: Operation, around: Computation, contracting: str) -> int:
    axes = re.findall(r"\d+", operation.attribute(contracting) or "")
    left = around[operation.operands[0]].shapes[0].dims
    return 2 * operation.shapes[0].elements * math.prod(left[int(axis)] for axis in axes)


def _of_convolution(operation: Operation, around: Computation) -> int:
    """Every output is a sum over a kernel's taps and the inputs of its group.

    Of a dilated input, each output meets one sample for so many taps. TPUs compute groups so.
    """
    _, kernel_labels, _ = _labels(operation)
    kernel = around[operation.operands[1]].shapes[0]
    outputs = kernel.dims[kernel_labels.index("o")]
    dilated = re.findall(r"\d+", operation.attribute(r"lhs_dilate=([\dx]+)") or "")
    products = operation.shapes[0].elements * kernel.elements // outputs
    return 2 * products // math.prod(map(int, dilated))


def _of_library_convolution(target: str, operation: Operation, around: Computation) -> int:
    """CuDNN's operands: forward x, w; of the input's gradient dy, w; of the kernel's x, dy."""
    _, kernel_labels, output_labels = _labels(operation)
    result = operation.shapes[0]
    operands = [around[name].shapes[0] for name in operation.operands]
    if target.endswith("BackwardFilter"):
        kernel, outputs = result, operands[1]
    elif target.endswith("BackwardInput"):
        kernel, outputs = operands[1], operands[0]
    else:
        kernel, outputs = operands[1], result
    of_group = kernel.elements // kernel.dims[kernel_labels.index("o")]
    assert len(outputs.dims) == len(output_labels)
    return 2 * outputs.elements * of_group


def _labels(operation: Operation) -> tuple[str, str, str]:
    match = _LABELS.search(operation.attributes)
    if match is None:
        raise ValueError(f"%{operation.name}: a convolution without dim_labels")
    return match[1], match[2], match[3]
