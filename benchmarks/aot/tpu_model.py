"""The time of each operation of a program compiled for a TPU, by libtpu's schedules and bytes."""

import pathlib
import re

from benchmarks.aot import collectives, schedule
from benchmarks.aot.costs import Cost
from benchmarks.aot.hlo import Execution, Module, Shape, executions
from benchmarks.aot.traffic import moved
from clef_jax.hardware.peaks import Peak

_FILE = re.compile(r"^\d+-(.*)-\d+-final_bundles\.txt$")
# Dumped: the machine code of each operation, and which operations share one.
DUMP_FLAGS = (
    "--xla_jf_dump_to={folder}",
    "--xla_jf_dump_llo_text=true",
    "--xla_jf_dump_llo_pass_label_regex=.*(final_bundles|dedup).*",
)
# Share of an operation's time up to which what is not certain about it does not matter.
_UNCERTAIN = 0.02
# Scalars that the top-level program handles itself, in a few bundles.
_INLINE_BYTES = 4096


class Schedules:
    """The schedules in a folder that libtpu dumped to, by operation.

    Args:
        folder: As given to `DUMP_FLAGS` when the program was compiled.
    """

    def __init__(self, folder: pathlib.Path):
        self._files = {}
        for path in folder.glob("*-final_bundles.txt"):
            if match := _FILE.match(path.name):
                self._files[match[1]] = path
        self._same = {}
        for path in folder.glob("*deduplication-map.txt"):
            self._same |= read_shared(path.read_text())
        self._cycles: dict[str, schedule.Cycles] = {}

    def cycles(self, name: str) -> schedule.Cycles | None:
        """Returns how long an operation's schedule takes, or None where it has none of its own."""
        name = name if name in self._files else self._same.get(name, name)
        if name not in self._files:
            return None
        if name not in self._cycles:
            self._cycles[name] = schedule.cycles(self._files[name].read_text())
        return self._cycles[name]


def read_shared(text: str) -> dict[str, str]:
    """Returns for each operation of a deduplication map the one whose schedule it shares."""
    shared, key = {}, ""
    for line in text.splitlines():
        if line.startswith("key:"):
            key = line.removeprefix("key:").strip()
        elif line.startswith(" ") and line.strip():
            shared[line.strip()] = key
    return shared


def costs(module: Module, schedules: Schedules, peak: Peak) -> list[Cost]:
    """Returns the cost of every operation that a program runs.

    Args:
        module: The compiled program.
        schedules: Dumped while it was compiled.
        peak: Of the device; its clock too.
    """
    return [_cost(module, run, schedules, peak) for run in executions(module)
            if not _is_end_of_copy(run)]  # fmt: skip


def _is_end_of_copy(run: Execution) -> bool:
    return run.operation.opcode.endswith(("-done", "-update"))


def _cost(module: Module, run: Execution, schedules: Schedules, peak: Peak) -> Cost:
    operation, times = run.operation, run.times
    if collectives.kind(operation):
        return _by_links(run, peak, module.chips)
    if operation.opcode.endswith("-start"):
        # The smaller side: a slice of the larger one.
        amount = min((shape.bytes for shape in _sides(operation.shapes)), default=0)
        return _by_bytes(run, amount, peak, background=True)
    found = schedules.cycles(operation.name)
    if operation.attribute(r'custom_call_target="(\w*Bitcast)"'):
        return _by_bytes(run, 0, peak, background=False)
    amount = sum(moved(module, run))
    if found is None:
        return _by_bytes(run, amount, peak, background=False)
    return Cost(
        operation,
        times,
        compute_seconds=times * _compute_seconds(found, peak),
        bytes=times * amount,
        memory_seconds=times * amount / peak.memory,
        known=run.known and found.uncertain <= _UNCERTAIN * found.count,
    )


def _compute_seconds(found: schedule.Cycles, peak: Peak) -> float:
    """Returns the time of a schedule: of its instructions, or of its busiest matrix unit."""
    assert peak.tpu is not None
    return max(found.count / peak.tpu.clock_hz, found.rows / peak.tpu.rows_hz)


def _by_links(run: Execution, peak: Peak, chips: int) -> Cost:
    """Returns the cost of a collective, as if all links of a chip worked at their best."""
    assert peak.tpu is not None
    sent = run.times * collectives.sent_bytes(run.operation, chips)
    return Cost(
        run.operation,
        run.times,
        compute_seconds=0.0,
        bytes=0,
        memory_seconds=0.0,
        known=run.known,
        link_seconds=sent / peak.tpu.links,
        background=run.operation.opcode.endswith("-start"),
    )


def _sides(shapes: tuple[Shape, ...]) -> list[Shape]:
    return [shape for shape in shapes if shape.dims]


def _by_bytes(run: Execution, amount: int, peak: Peak, *, background: bool) -> Cost:
    small = sum(shape.bytes for shape in run.operation.shapes) <= _INLINE_BYTES
    return Cost(
        run.operation,
        run.times,
        compute_seconds=0.0,
        bytes=run.times * amount,
        memory_seconds=run.times * amount / peak.memory,
        known=run.known and (background or small or not amount),
        background=background,
    )
