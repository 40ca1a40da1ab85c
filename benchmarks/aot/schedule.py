"""Counts the cycles of a TPU schedule: libtpu's final bundles, one a line, one a cycle.

A dump holds the whole machine code of one operation. What decides how often a bundle runs stands
in its scalar instructions: loop counters, their limits, the sizes of ragged windows. They are
executed here, and nothing else is; so every loop counts as often as it runs, nested ones and those
of Pallas kernels too, and regions that a predicate skips do not count.

Waiting is not in a schedule: for memory, and for a matrix unit. What a unit takes in is counted
beside it, as units may be asked for more than they do in a cycle. A result asked for before it is
ready is not: a loop of one short product after another takes longer than counted here.
"""

import collections
import dataclasses
import itertools
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

_BUNDLE = re.compile(
    r"^ *(?:0x[0-9a-f]+|0) *(?:[A-Z]{2}(?: [A-Z]{2})*)? *: *>*[ >]*\{", re.MULTILINE
)
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_REGION = re.compile(r"Start(?:/End empty)? region (\d+)")
_BRANCH = re.compile(r"sbr\.rel (?:\((!?)%(p\w+)\) )?target = \$region(\d+)")
_RESULT = re.compile(r"%([sp]\d+_[sp]\d+) = ([\w.]+) (.*)", re.DOTALL)
_STORE = re.compile(r"sst \[smem:(\[#\w*spill\w*\])\] %([sp]\w+)")
_SPILL = re.compile(r"\[smem:(\[#\w*spill\w*\])\]")
_PRODUCT = re.compile(r"vmatmul\.([\w.]*)\.(mxu\d)")
_GUARD = re.compile(r"\((!?)%(p\w+)(?:, %(s\w+))?\), *")
# Bundles that still run after a branch that is taken.
_DELAY = 4
# Of one instruction's left side.
_ROWS_BFLOAT16, _ROWS_FLOAT32 = 16, 8
# More than any operation of a step runs; a schedule that passes it is misread.
_MOST_STEPS = 20_000_000


def _phi(*values: Any) -> Any:
    """Stands for the join of values that come from different bundles."""
    raise NotImplementedError


_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "sadd.s32": operator.add,
    "ssub.s32": operator.sub,
    "smul.u32": operator.mul,
    "sand.u32": operator.and_,
    "sor.u32": operator.or_,
    "sxor.u32": operator.xor,
    "sshll.u32": lambda a, b: a << b if b < 32 else 0,
    "sshrl.u32": lambda a, b: (a & 0xFFFFFFFF) >> b,
    "sshra.s32": operator.rshift,
    "smax.s32": max,
    "smin.s32": min,
    "smov": lambda a: a,
    "sld": lambda a: a,
    "scmp.eq.s32.totalorder": operator.eq,
    "scmp.ne.s32.totalorder": operator.ne,
    "scmp.lt.s32.totalorder": operator.lt,
    "scmp.le.s32.totalorder": operator.le,
    "scmp.gt.s32.totalorder": operator.gt,
    "scmp.ge.s32.totalorder": operator.ge,
    "scmp.lt.u32.totalorder": lambda a, b: a & 0xFFFFFFFF < b & 0xFFFFFFFF,
    "scmp.ge.u32.totalorder": lambda a, b: a & 0xFFFFFFFF >= b & 0xFFFFFFFF,
    "pnand": lambda a, b: not (a and b),
    "pand": lambda a, b: a and b,
    "por": lambda a, b: a or b,
    "pxor": operator.xor,
    "pneg": operator.not_,
    "pmov": lambda a: a,
    "scalar_select": lambda p, a, b: a if p else b,
    "sphi": _phi,
    "pphi": _phi,
}


# Whether it is negated, and the predicate.
Guard: TypeAlias = tuple[bool, str]
# Register written, what computes it if that is known, operands, guard, value where it fails.
Step: TypeAlias = tuple[str, Callable[..., Any] | None, list[str | int], Guard | None, str | None]


class ScheduleError(ValueError):
    """A dump that does not read as a schedule."""


@dataclasses.dataclass(frozen=True)
class Cycles:
    """How long a schedule takes.

    Attributes:
        count: Bundles that run.
        uncertain: Of these, bundles that run or not by what no scalar instruction tells.
        rows: Rows of a product's left side that the busiest matrix unit takes in.
    """

    count: int
    uncertain: int
    rows: int


@dataclasses.dataclass(frozen=True)
class _Instruction:
    """A scalar instruction.

    Attributes:
        result: Name, `s12_s3`: the third value's register after the underscore.
        compute: Of the operands; None where nothing tells the result.
        operands: Names, or numbers.
        guard: (negated, predicate) under which it runs, else None.
        otherwise: What a select takes where its guard fails, else None.
    """

    result: str
    compute: Callable[..., Any] | None
    operands: tuple[str | int, ...]
    guard: "Guard | None" = None
    otherwise: str | None = None

    @property
    def reads(self) -> set[str]:
        """Names that the result depends on."""
        found = {operand for operand in self.operands if isinstance(operand, str)}
        found |= {self.guard[1]} if self.guard else set()
        return found | ({self.otherwise} if self.otherwise else set())

    @property
    def step(self) -> "Step":
        """The instruction on registers."""
        operands = [o if isinstance(o, int) else _register(o) for o in self.operands]
        guard = (self.guard[0], _register(self.guard[1])) if self.guard else None
        otherwise = _register(self.otherwise) if self.otherwise else None
        return _register(self.result), self.compute, operands, guard, otherwise


def _register(name: str) -> str:
    return name.rpartition("_")[2]


def cycles(text: str) -> Cycles:
    """Returns how long the schedule of a `…-final_bundles.txt` takes.

    Raises:
        ScheduleError: There are no bundles, or it never ends.
    """
    return _parse(text).run()


@dataclasses.dataclass(frozen=True)
class _Program:
    """Bundles, as far as they decide which bundle is next.

    Attributes:
        length: Number of bundles.
        steps: What to execute, by bundle; those without anything are left out.
        branches: By bundle: under which guard, and to which bundle.
        rows: By matrix unit, rows taken in before each bundle.
    """

    length: int
    steps: dict[int, list[Step]]
    branches: dict[int, tuple[Guard | None, int]]
    rows: dict[str, list[int]]

    def run(self) -> Cycles:
        """Executes the program."""
        after = _next_stops(sorted(self.steps.keys() | self.branches.keys()), self.length)
        registers = _Registers()
        runs: collections.Counter[tuple[int, int]] = collections.Counter()
        uncertain = at = 0
        jump: tuple[int, int] | None = None  # (last bundle before it takes place, where to)
        for _ in range(_MOST_STEPS):
            stop = after[at]
            if jump is not None and jump[0] < stop:
                runs[at, min(jump[0] + 1, self.length)] += 1
                at, jump = jump[1], None
                continue
            runs[at, min(stop + 1, self.length)] += 1
            if stop == self.length:
                return self._total(runs, uncertain)
            if stop in self.branches and jump is None:
                guard, target = self.branches[stop]
                taken = True if guard is None else _holds(guard, registers)
                if taken is None:
                    uncertain += abs(target - stop)
                elif taken:
                    jump = (stop + _DELAY, target)
            if stop in self.steps:
                _execute(self.steps[stop], registers)
            at = stop + 1
            if jump is not None and jump[0] == stop:
                at, jump = jump[1], None
        raise ScheduleError(f"a schedule of {self.length} bundles does not end")

    def _total(self, runs: Mapping[tuple[int, int], int], uncertain: int) -> Cycles:
        """Sums runs of bundles, from one to before another, each so many times."""
        count = sum((end - begin) * times for (begin, end), times in runs.items())
        rows = [
            sum((taken[end] - taken[begin]) * times for (begin, end), times in runs.items())
            for taken in self.rows.values()
        ]
        return Cycles(count, min(uncertain, count), max(rows, default=0))


def _next_stops(stops: list[int], length: int) -> list[int]:
    """Returns for each bundle the first one from it on that holds something to execute."""
    after, following = [length] * (length + 1), length
    for place in range(length - 1, -1, -1):
        if stops and stops[-1] == place:
            following = stops.pop()
        after[place] = following
    return after


class _Registers(dict[Any, Any]):
    """Values by register; a number stands for itself, and nothing is known of the rest."""

    def __missing__(self, key: str | int) -> int | None:
        return key if isinstance(key, int) else None


def _holds(guard: Guard, registers: _Registers) -> bool | None:
    value = registers[guard[1]]
    return None if value is None else bool(value) != guard[0]


def _execute(steps: list[Step], registers: _Registers) -> None:
    """Executes one bundle: all of it reads before any of it writes."""
    written = {}
    for register, compute, operands, guard, otherwise in steps:
        holds = True if guard is None else _holds(guard, registers)
        if holds:
            values = [registers[operand] for operand in operands]
            known = compute is not None and None not in values
            written[register] = _wrapped(compute(*values)) if known else None
        elif holds is None:
            written[register] = None
        elif otherwise is not None:
            written[register] = registers[otherwise]
    registers.update(written)


def _wrapped(value: Any) -> Any:
    """Returns a result as the signed 32-bit number that a register holds."""
    if isinstance(value, bool) or -0x80000000 <= value <= 0x7FFFFFFF:
        return value
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


def _parse(text: str) -> _Program:
    starts = [match.start() for match in _BUNDLE.finditer(text)]
    if not starts:
        raise ScheduleError(f"no bundles in {text[:80]!r}")
    instructions: dict[int, list[_Instruction]] = {}
    branches: dict[int, tuple[Guard | None, int]] = {}
    regions: dict[int, int] = {}
    products: dict[str, dict[int, int]] = collections.defaultdict(dict)
    for place, (begin, end) in enumerate(itertools.pairwise([*starts, len(text)])):
        bundle = text[begin:end]
        for region in _REGION.findall(bundle):
            regions.setdefault(int(region), place)
        bundle = _COMMENT.sub("", bundle)
        if match := _BRANCH.search(bundle):
            branches[place] = ((match[1] == "!", match[2]) if match[2] else None, int(match[3]))
        for kind, unit in _PRODUCT.findall(bundle):
            rows = _ROWS_BFLOAT16 if "bf16" in kind else _ROWS_FLOAT32
            products[unit][place] = products[unit].get(place, 0) + rows
        found = map(_parse_instruction, bundle.split(";;"))
        instructions[place] = [instruction for instruction in found if instruction is not None]
    known = {
        place: (guard, regions[to]) for place, (guard, to) in branches.items() if to in regions
    }
    return _Program(
        length=len(starts),
        steps=_steps_that_decide(instructions, [guard for guard, _ in known.values() if guard]),
        branches={
            place: (guard and (guard[0], _register(guard[1])), to)
            for place, (guard, to) in known.items()
        },
        rows={unit: _sums(taken, len(starts)) for unit, taken in products.items()},
    )


def _sums(amounts: Mapping[int, int], length: int) -> list[int]:
    """Returns the sum of what stands before each place, and of all."""
    return list(itertools.accumulate((amounts.get(i, 0) for i in range(length)), initial=0))


def _parse_instruction(text: str) -> _Instruction | None:
    """Returns a scalar instruction, or None for all others."""
    if match := _STORE.search(text):
        return _Instruction(_spill(match[1]), lambda a: a, (match[2],))
    match = _RESULT.search(text)
    if match is None:
        return None
    result, name, rest = match.groups()
    guard = otherwise = None
    if found := _GUARD.match(rest):  # `(p, a), b` is b where p holds, else a.
        guard, otherwise, rest = (found[1] == "!", found[2]), found[3], rest[found.end() :]
    if name == "sld":
        slot = _SPILL.search(rest)
        operands: tuple[str | int, ...] = (_spill(slot[1]),) if slot else ()
        return _Instruction(result, _ARITHMETIC[name] if slot else None, operands, guard, otherwise)
    operands = tuple(_operand(part) for part in rest.strip(" }\n").split(",") if part.strip())
    return _Instruction(result, _ARITHMETIC.get(name), operands, guard, otherwise)


def _spill(slot: str) -> str:
    """Returns the name of a spill slot, which is its own register."""
    return "spill_" + re.sub(r"\W|_", "", slot)


def _operand(text: str) -> str | int:
    text = text.split()[0]
    return int(text) if text.lstrip("-").isdigit() else text.lstrip("%")


def _steps_that_decide(
    instructions: Mapping[int, list[_Instruction]], guards: list[Guard]
) -> dict[int, list[Step]]:
    """Returns, by bundle, what branches depend on: no addresses, no strides.

    Phis are only followed: the values that one joins are in the same register.
    """
    writers: dict[str, list[_Instruction]] = collections.defaultdict(list)
    for instruction in itertools.chain.from_iterable(instructions.values()):
        writers[instruction.result].append(instruction)
    needed: set[str] = set()
    waiting = [name for _, name in guards]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            for writer in writers[name]:
                waiting += writer.reads
    steps = {}
    for place, bundle in instructions.items():
        kept = [i.step for i in bundle if i.result in needed and i.compute is not _phi]
        if kept:
            steps[place] = kept
    return steps
