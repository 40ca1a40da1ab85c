"""What XLA's autotuner tries kernels for, counted in a program compiled for a GPU.

A device spends some 0.7 s on each distinct instruction, more than all the rest of compiling takes.
"""

import collections
import re

_INSTRUCTION = re.compile(
    r"^\s+(?:ROOT )?%(?P<name>[\w.\-]+) = (?P<type>\(.*?\)|\S+) (?P<opcode>custom-call|fusion)"
    r"\((?P<operands>[^)]*)\)(?P<rest>.*)$"
)
_DEFINED = re.compile(r"^\s+(?:ROOT )?%([\w.\-]+) = (\((?:[^()]|\([^()]*\))*\)|\S+) ")
_HEADER = re.compile(r"^(?:ENTRY )?%([\w.\-]+) .*\{$")
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
    fusion, what it computes are. Fusions are tuned only if
    `xla_gpu_experimental_enable_fusion_autotuner` is on.

    Args:
        text: The compiled program's, from `compiled.as_text()`.
    """
    lines = text.splitlines()
    bodies = _computations(lines)
    types = {match[1]: match[2] for match in map(_DEFINED.match, lines) if match}
    found = collections.defaultdict(set)
    for match in filter(None, map(_INSTRUCTION.match, lines)):
        rest = match["rest"]
        kind = next((kind for mark, kind in _KINDS.items() if mark in rest), None)
        if kind is None and match["opcode"] == "fusion":
            kind = "fusion"
        if kind is None:
            continue
        operands = re.findall(r"%([\w.\-]+)", match["operands"])
        called = re.search(r"calls=%([\w.\-]+)", rest)
        found[kind].add(
            (
                match["type"],
                tuple(types.get(operand) for operand in operands),
                _INCIDENTAL.sub("", rest),
                bodies[called[1]] if called else "",
            )
        )
    return {kind: len(found[kind]) for kind in ("gemm", "convolution", "fusion")}


def _computations(lines: list[str]) -> dict[str, str]:
    """Returns the text of every computation by its name, without the names in it."""
    bodies: dict[str, list[str]] = {}
    current: list[str] = []
    for line in lines:
        if header := _HEADER.match(line):
            current = bodies.setdefault(header[1], [])
        elif line.startswith("  "):
            current.append(_INCIDENTAL.sub("", line))
    return {name: "\n".join(body) for name, body in bodies.items()}
