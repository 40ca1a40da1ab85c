"""Reads the text of a compiled program: computations, operations, shapes, layouts, trips."""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping

_BITS = {
    "pred": 8, "s4": 4, "u4": 4, "s8": 8, "u8": 8, "s16": 16, "u16": 16, "bf16": 16, "f16": 16,
    "s32": 32, "u32": 32, "f32": 32, "s64": 64, "u64": 64, "f64": 64, "c64": 64,
}  # fmt: skip
_SHAPE = re.compile(r"\b(\w+)\[([\d,]*)\](?:\{([^{}]*)\})?")
_LAYOUT = re.compile(r"^([\d,]*)(?::T\(([\d,]+)\))?")
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-<>]+) .*\{$")
_OPERATION = re.compile(r"^\s+(ROOT )?%?([\w.\-<>]+) = ")
_OPCODE = re.compile(r"\s*([a-z][\w\-]*)\(")
_CALLED = re.compile(
    r"(?:calls|to_apply|body|true_computation|false_computation)=%?([\w.\-<>]+)"
    r"|(?:branch_computations|called_computations)=\{([^}]*)\}"
)


class HloError(ValueError):
    """A text that is not that of a compiled program."""


@dataclasses.dataclass(frozen=True)
class Shape:
    """An array as the compiler lays it out.

    Attributes:
        dtype: As HLO names it: bf16, f32, pred.
        dims: Sizes, in logical order.
        order: Dimensions from the fastest to the slowest, empty where the text gives no layout.
        tile: Sizes of the outermost tile, of the slowest of its dimensions first; empty if none.
        space: Memory: 0 is the device's main one, another number a scratch memory on the chip.
    """

    dtype: str
    dims: tuple[int, ...]
    order: tuple[int, ...] = ()
    tile: tuple[int, ...] = ()
    space: int = 0

    @property
    def elements(self) -> int:
        """Number of elements, without padding."""
        return math.prod(self.dims)

    @property
    def bytes(self) -> int:
        """Bytes taken, with the padding that tiles ask for."""
        sizes = [self.dims[axis] for axis in self.order] if self.tile else list(self.dims)
        for place, tile in enumerate(reversed(self.tile)):
            if place < len(sizes):
                sizes[place] = -(-sizes[place] // tile) * tile
        return math.prod(sizes) * _BITS.get(self.dtype, 0) // 8


@dataclasses.dataclass(frozen=True)
class Operation:
    """One line of a computation.

    Attributes:
        name: Unique in the module.
        opcode: fusion, convolution, copy-start, …
        shapes: Arrays of the result; several where it is a tuple.
        operands: Names of operations.
        attributes: The rest of the line.
        value: Of a constant that is a whole number; the number of a parameter; else None.
    """

    name: str
    opcode: str
    shapes: tuple[Shape, ...]
    operands: tuple[str, ...]
    attributes: str
    value: int | None = None

    @property
    def op_name(self) -> str:
        """Where in the traced program it comes from, by JAX: `jit(step)/…/dot_general`."""
        return self.attribute(r'op_name="([^"]*)"') or ""

    def attribute(self, pattern: str) -> str | None:
        """Returns the first group of a pattern in the attributes, or None."""
        match = re.search(pattern, self.attributes)
        return match[1] if match else None

    @property
    def called(self) -> list[str]:
        """Names of the computations that it runs, but for a loop's condition."""
        found = []
        for one, several in _CALLED.findall(self.attributes):
            found += [one] if one else [name.strip(" %") for name in several.split(",")]
        return found


Computation = Mapping[str, Operation]


@dataclasses.dataclass(frozen=True)
class Module:
    """A compiled program.

    Attributes:
        computations: By name; each maps names to operations, in the order of the text.
        entry: Name of the one that runs.
        roots: Name of the result of each computation.
        chips: How many run it together.
    """

    computations: Mapping[str, Computation]
    entry: str
    roots: Mapping[str, str]
    chips: int = 1


def parse(text: str) -> Module:
    """Returns the module of a compiled program's text, from `compiled.as_text()`.

    Raises:
        HloError: The text has no entry computation.
    """
    computations: dict[str, dict[str, Operation]] = {}
    roots: dict[str, str] = {}
    entry = current = None
    for line in text.splitlines():
        if not line.startswith(" ") and (match := _HEADER.match(line)):
            current = match[2]
            computations[current] = {}
            entry = current if match[1] else entry
        elif current is not None and (match := _OPERATION.match(line)):
            operation = _parse_operation(match[2], line[match.end() :])
            computations[current][operation.name] = operation
            if match[1]:
                roots[current] = operation.name
    if entry is None:
        raise HloError(f"no compiled program: no ENTRY in {text[:80]!r}…")
    head = text.partition("\n")[0]
    chips = math.prod(map(int, re.findall(r"\b(?:replica_count|num_partitions)=(\d+)", head)))
    return Module(computations, entry, roots, chips)


def parse_shapes(text: str) -> tuple[Shape, ...]:
    """Returns the arrays of a type, a tuple's leaves in order: `(f32[4]{0}, bf16[2,3])`."""
    return tuple(_shape(*match) for match in _SHAPE.findall(text) if match[0] in _BITS)


def _shape(dtype: str, dims: str, layout: str) -> Shape:
    order, tile = _LAYOUT.match(layout).groups()  # type: ignore[union-attr]
    space = re.search(r"S\((\d+)\)", layout)
    return Shape(
        dtype, _numbers(dims), _numbers(order), _numbers(tile), int(space[1]) if space else 0
    )


def _numbers(text: str | None) -> tuple[int, ...]:
    return tuple(int(number) for number in (text or "").split(",") if number)


def _parse_operation(name: str, rest: str) -> Operation:
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    match = _OPCODE.match(rest, end)
    if match is None:
        raise HloError(f"%{name}: no operation in {rest[:120]!r}")
    close = _closing(rest, match.end() - 1)
    given = rest[match.end() : close]
    whole = match[1] in ("constant", "parameter") and re.fullmatch(r"-?\d+", given)
    return Operation(
        name,
        match[1],
        parse_shapes(rest[:end]),
        tuple(re.findall(r"%([\w.\-<>]+)", given)),
        rest[close + 1 :],
        int(given) if whole else None,
    )


def _closing(text: str, start: int) -> int:
    """Returns the place of the parenthesis that closes the one at `start`."""
    depth = 0
    for place in range(start, len(text)):
        depth += (text[place] == "(") - (text[place] == ")")
        if depth == 0:
            return place
    raise HloError(f"unclosed parenthesis in {text[start : start + 80]!r}")


@dataclasses.dataclass(frozen=True)
class Execution:
    """An operation that a program runs.

    Attributes:
        operation: What.
        computation: The computation it stands in, whose names its operands are.
        times: How often: the product of the trips of the loops around it.
        known: Whether the trips of all these loops are known; unknown ones count once.
    """

    operation: Operation
    computation: Computation
    times: int
    known: bool


_FREE = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all",
         "partition-id", "replica-id", "opt-barrier")  # fmt: skip


def executions(module: Module) -> Iterator[Execution]:
    """Yields what a program runs, loops entered and counted; of a conditional, every branch."""
    yield from _executions(module, module.entry, 1, True)


def _executions(module: Module, name: str, times: int, known: bool) -> Iterator[Execution]:
    computation = module.computations[name]
    for operation in computation.values():
        if operation.opcode in _FREE:
            continue
        if operation.opcode == "while":
            trips = trip_count(module, computation, operation)
            for called in operation.called:
                yield from _executions(
                    module, called, times * (trips or 1), known and trips is not None
                )
        elif operation.opcode in ("conditional", "call"):
            for called in operation.called:
                yield from _executions(module, called, times, known)
        else:
            yield Execution(operation, computation, times, known)


def trip_count(module: Module, computation: Computation, loop: Operation) -> int | None:
    """Returns how often a `while` runs its body, or None where its text does not tell.

    Told by XLA's own count, or by a condition that compares a counter which starts at a constant
    and grows by one a trip with a constant.
    """
    if told := loop.attribute(r'"known_trip_count":\{"n":"(\d+)"'):
        return int(told)
    condition_name = loop.attribute(r"condition=%?([\w.\-<>]+)")
    condition = module.computations.get(condition_name or "", {})
    limits = [o.value for o in condition.values() if o.opcode == "constant" and o.value is not None]
    counters = [o for o in condition.values() if o.opcode == "get-tuple-element"]
    less = any("direction=LT" in o.attributes for o in condition.values())
    if len(limits) != 1 or len(counters) != 1 or not less:
        return None
    start = _start_of(computation, loop, int(counters[0].attribute(r"index=(\d+)") or 0))
    return None if start is None else max(limits[0] - start, 0)


def _start_of(computation: Computation, loop: Operation, index: int) -> int | None:
    """Returns the constant that element `index` of a loop's state starts from, or None."""
    operation = computation.get(loop.operands[0])
    if operation is not None and operation.opcode == "tuple":
        operation = computation.get(operation.operands[index])
    while operation is not None and operation.opcode in ("copy", "bitcast", "copy-done"):
        operation = computation.get(operation.operands[0])
    is_constant = operation is not None and operation.opcode == "constant"
    return operation.value if operation is not None and is_constant else None
