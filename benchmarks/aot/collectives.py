"""Collectives of a compiled program: which there are, and the bytes that a chip sends for them."""

import re

from benchmarks.aot.hlo import Operation

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


def kind(operation: Operation) -> str | None:
    """Returns which collective an operation is or starts, or None."""
    name = operation.opcode.removesuffix("-start")
    return name if name in KINDS else None


def sent_bytes(operation: Operation, chips: int) -> int:
    """Returns the bytes that each of a program's chips sends, as rings do with the fewest."""
    name, members = kind(operation), _group_size(operation, chips)
    shapes = operation.shapes
    if operation.opcode.endswith("-start") and name == "all-gather":
        shapes = shapes[len(shapes) // 2 :]  # The first half are the operands.
    elif operation.opcode.endswith("-start") and name == "collective-permute":
        shapes = shapes[:1]
    amount = sum(shape.bytes for shape in shapes)
    share = (members - 1) / members
    if name == "all-reduce":
        return int(2 * share * amount)
    if name == "reduce-scatter":
        return int(share * members * amount)
    return amount if name == "collective-permute" else int(share * amount)


def _group_size(operation: Operation, chips: int) -> int:
    """Returns how many chips a group has, which `[2,4]<=[8]` and `{{0,1},{2,3}}` say; `{}`: all."""
    if match := re.search(r"replica_groups=\[\d+,(\d+)\]", operation.attributes):
        return int(match[1])
    if match := re.search(r"replica_groups=\{\{([\d,]+)\}", operation.attributes):
        return len(match[1].split(","))
    return chips
