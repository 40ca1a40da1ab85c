"""Which part of the training step an operation belongs to."""

import dataclasses
import re

from benchmarks.aot import collectives
from benchmarks.aot.frames import Frames
from benchmarks.aot.hlo import Module, Operation

# By the module's name in the traced program. A fusion has the name of the operation it ends in,
# so that an activation which a convolution ends in counts as the convolution.
_BY_MODULE = (
    (re.compile(r"/conv2(?:/|$)"), "grouped convolution"),
    (re.compile(r"/stem(?:/|$)"), "stem"),
    (re.compile(r"/conv[13](?:/|$)"), "pointwise"),
    (re.compile(r"/se_fc\d(?:/|$)"), "squeeze-excite"),
)
# By the innermost frame of the sources that one of them fits: file and function.
_BY_SOURCE = (
    (re.compile(r"clef_jax/ops/residual_block/.*"), "whole block"),
    (re.compile(r"clef_jax/ops/grouped_conv/.*"), "grouped convolution"),
    (re.compile(r"clef_jax/ops/activation\.py.*"), "activation"),
    (re.compile(r".*scale_channels.*|.*jax/_src/nn/functions\.py.*"), "squeeze-excite"),
    (re.compile(r"clef_jax/ops/pooling\.py.*|.*(max_pool|_greater_of_two).*"), "pooling"),
    (re.compile(r"clef_jax/methods/augment\.py.*|clef_jax/ops/zscore\.py.*|.*\brow_keys"),
     "augmentation"),
    (re.compile(r"clef_jax/losses/.*|.*\.compare$"), "loss"),
    (re.compile(r".*/optax/.*|clef_jax/train/optim\.py.*"), "optimiser"),
    (re.compile(r"clef_jax/models/.*"), "rest of the encoder"),
    (re.compile(r"clef_jax/train/step\.py.*\bstep"), "optimiser"),
)  # fmt: skip
# What a backward pass of our own has no frame of: by the operation, within a block.
_BY_OPERATION = (
    (re.compile(r"max|reduce_max|ge|eq|select_n|and|where"), "pooling"),
    (re.compile(r"exp|logistic|tanh|div|sub|neg|mul|integer_pow"), "activation"),
    (re.compile(r"add|add_any"), "residual sum"),
)
_BLOCK = re.compile(r"(stage\d+_block\d+)")
_KERNEL = re.compile(r"params.*(stage\d+_block\d+).*conv2.*kernel")


class Places:
    """Tells the parts of one program.

    Args:
        module: The program.
        frames: Of its text.
    """

    def __init__(self, module: Module, frames: Frames):
        self._module = module
        self._frames = frames
        self._kernel_gradients = _kernel_gradients(module)

    def of(self, operation: Operation) -> str:
        """Returns the part, as "pooling backward"."""
        if found := collectives.kind(operation):
            return f"collectives: {found}"
        operation = self._named(operation)
        part = self._part(operation)
        if part in ("augmentation", "optimiser", "rest", "copies"):
            return part
        backward = "transpose(" in operation.op_name
        if part == "grouped convolution" and backward:
            mine = operation.name in self._kernel_gradients
            return "grouped convolution, " + ("kernel gradient" if mine else "input gradient")
        separator = ", " if part == "grouped convolution" else " "
        return part + separator + ("backward" if backward else "forward")

    def _named(self, operation: Operation) -> Operation:
        """Returns the operation, or the last one with a name that it is fused from."""
        if operation.op_name or operation.opcode != "fusion":
            return operation
        (body,) = operation.called
        inside = reversed(self._module.computations[body].values())
        inner = next((i for i in inside if i.op_name and i.opcode != "parameter"), operation)
        return dataclasses.replace(inner, name=operation.name)

    def _part(self, operation: Operation) -> str:
        for pattern, part in _BY_MODULE:
            if pattern.search(operation.op_name):
                return part
        number = operation.attribute(r"stack_frame_id=(\d+)")
        for frame in self._frames.of(int(number)) if number else ():
            source = f"{_in_package(frame.file)} {frame.function}"
            if frame.function == "Block.__call__":
                return _part_of_block(operation)
            for pattern, part in _BY_SOURCE:
                if pattern.fullmatch(source) or pattern.fullmatch(frame.function):
                    return part
        return "copies" if operation.opcode.startswith("copy") else "rest"


def _part_of_block(operation: Operation) -> str:
    last = operation.op_name.rpartition("/")[2]
    return next((part for names, part in _BY_OPERATION if names.fullmatch(last)), "rest of a block")


def _in_package(path: str) -> str:
    found = path.rfind("/clef_jax/")
    return path[found + 1 :] if found >= 0 else path


def _kernel_gradients(module: Module) -> frozenset[str]:
    """Returns the operations of the grouped convolutions that only a kernel's gradient is made of.

    The traced program names both gradients alike. What has no more elements than the kernel of
    its block is part of the kernel's gradient, and so is what only such parts are made of.
    """
    kernels = {
        match[1]: operation.shapes[0].elements
        for operation in module.computations[module.entry].values()
        if operation.opcode == "parameter" and (match := _KERNEL.search(operation.op_name))
    }
    found: set[str] = set()
    for computation in module.computations.values():
        users: dict[str, list[Operation]] = {}
        for operation in computation.values():
            for operand in operation.operands:
                users.setdefault(operand, []).append(operation)
        for operation in reversed(computation.values()):
            block = _BLOCK.search(operation.op_name)
            limit = kernels.get(block[1], 0) if block else 0
            small = 0 < max((s.elements for s in operation.shapes), default=0) <= limit
            following = users.get(operation.name, ())
            if small or (following and all(user.name in found for user in following)):
                found.add(operation.name)
    return frozenset(found)
