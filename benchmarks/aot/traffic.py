"""Bytes that an operation moves between the device's main memory and the chip."""

from benchmarks.aot.hlo import Computation, Execution, Module, Operation, Shape

_SLICES = ("slice", "dynamic-slice", "gather")
_SAME_BYTES = ("bitcast", "get-tuple-element")


def main_memory(shape: Shape) -> int:
    """Returns the bytes of an array, none where it lies in a scratch memory on the chip."""
    return 0 if shape.space else shape.bytes


def moved(module: Module, execution: Execution) -> tuple[int, int]:
    """Returns the bytes that one execution reads and writes.

    Of an operand that a fusion only takes slices of, the slices count; of an array that it updates
    in place, the update.

    Args:
        module: The program.
        execution: From `hlo.executions`.
    """
    operation, around = execution.operation, execution.computation
    inside = _body(module, operation)
    read = 0
    for number, name in enumerate(operation.operands):
        if name not in around:
            continue
        whole = sum(map(main_memory, around[name].shapes))
        slices = _sliced(inside, number)
        read += whole if slices is None else min(whole, slices)
    written = sum(map(main_memory, operation.shapes))
    update = _update_in_place(inside, module.roots.get(_body_name(operation) or ""))
    return read, written if update is None else min(written, update)


def _body_name(operation: Operation) -> str | None:
    return operation.attribute(r"calls=%?([\w.\-]+)") if operation.opcode == "fusion" else None


def _body(module: Module, operation: Operation) -> Computation:
    name = _body_name(operation)
    if name is not None:
        return module.computations[name]
    # One that is not fused reads as a fusion of itself does.
    return {}


def _sliced(inside: Computation, number: int) -> int | None:
    """Returns the bytes that slices take of a fusion's parameter, or None if it is read whole."""
    for operation in inside.values():
        if operation.opcode == "parameter" and operation.value == number:
            return _slices_of(inside, operation.name)
    return None


def _slices_of(inside: Computation, name: str) -> int | None:
    total = 0
    for user in inside.values():
        if name not in user.operands:
            continue
        if user.opcode in _SLICES:
            total += sum(map(main_memory, user.shapes))
        elif user.opcode in _SAME_BYTES:
            below = _slices_of(inside, user.name)
            if below is None:
                return None
            total += below
        elif user.opcode == "dynamic-update-slice" and user.operands[0] == name:
            continue  # Updated in place: what is left alone is not read.
        else:
            return None
    return total


def _update_in_place(inside: Computation, root: str | None) -> int | None:
    """Returns the bytes of the update where a fusion's result is an array updated in place."""
    operation = inside.get(root or "")
    if operation is None or operation.opcode != "dynamic-update-slice":
        return None
    update = inside.get(operation.operands[1])
    return None if update is None else sum(map(main_memory, update.shapes))
