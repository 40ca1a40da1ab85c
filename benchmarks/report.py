"""Renders the measurements kept in `benchmarks/results/` as `benchmarks/RESULTS.md`.

python -m benchmarks.report
"""

import json
import os
import pathlib
from typing import Any

from benchmarks.results import FOLDER

RESULTS = pathlib.Path(__file__).with_name("RESULTS.md")
_HEADING = """# Results

Rendered by `python -m benchmarks.report` from `benchmarks/results/`. Durations are medians of
several runs in turn with their peers; `spread` is the interquartile range over the median. `load`
is the machine's load when the benchmark began: above its number of cores, others were using it.
`ratio` is the peer's duration over ours: above 1 we are faster. No accelerator has been measured.
The lines of 2026-11-22 were taken on shared cores with both sides at a raised scheduling priority:
their ratios compare like with like, their durations flatter both.
"""


def table(rows: list[dict[str, Any]]) -> str:
    """Returns measurements as a Markdown table, a column for every field that one of them has."""
    flat = []
    for row in rows:
        machine = row["machine"]
        cells = {k: v for k, v in row.items() if k not in ("benchmark", "machine")}
        cells |= {"device": machine["device"], "load": machine["load"], "date": machine["date"]}
        flat.append(cells)
    columns = list(dict.fromkeys(name for cells in flat for name in cells))
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += [
        "| " + " | ".join(str(cells.get(name, "")) for name in columns) + " |" for cells in flat
    ]
    return "\n".join(lines)


def render(folder: pathlib.Path) -> str:
    """Returns the report on all `*.jsonl` files of a folder."""
    parts = [_HEADING]
    for path in sorted(folder.glob("*.jsonl")):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        parts.append(f"## `python -m benchmarks.bench_{path.stem}`\n\n{table(rows)}\n")
    return "\n".join(parts)


def main() -> None:
    """Writes the report beside the benchmarks."""
    temporary = RESULTS.with_suffix(".tmp")
    temporary.write_text(render(FOLDER))
    os.replace(temporary, RESULTS)
    print(RESULTS)


if __name__ == "__main__":
    main()
