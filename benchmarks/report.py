"""Renders the measurements kept in `benchmarks/results/` as RESULTS.md, with plots.

python -m benchmarks.report
"""

import json
import os
import pathlib
import re

from matplotlib.figure import Figure

from benchmarks import sections
from benchmarks.results import FOLDER
from clef_jax.files import replacing

_INTRODUCTION = """# Results

Rendered by `python -m benchmarks.report` from the lines in `benchmarks/results/`; `python -m
benchmarks.all` renews them. Where a case was measured several times, the latest stands here.

Durations are medians of several runs, taken in turn where sides are compared; *spread* is their
interquartile range over the median. *Load* is the machine's when the benchmark began: above its
number of cores, others were using them, and everything took longer than it need have.
"""
_NO_ACCELERATOR = "No accelerator has been measured.\n"


def read_lines(path: pathlib.Path) -> list[sections.Row]:
    """Returns the lines of a benchmark's file, oldest first, each with the section that shows it.

    Raises:
        ValueError: A line is damaged, or no section shows it; the message names it.
    """
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            row = json.loads(line)
            section = sections.of(path.stem, row.get("kind"))
            case = tuple(row[name] for name in section.case)
            added = {name: row["machine"][name] for name in ("load", "date")}
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ValueError(f"{path}, line {number}: not a measurement: {error!r}") from error
        rows.append(row | added | {"section": section, "case": case})
    return rows


def table(section: sections.Section, rows: list[sections.Row]) -> str:
    """Returns a Markdown table; a cell is empty where a line lacks its field."""

    def cell(template: str, row: sections.Row) -> str:
        try:
            return template.format(**row)
        except KeyError:
            return ""

    columns = {name.replace("_", " "): f"{{{name}}}" for name in section.case} | section.columns
    columns |= {"load": "{load}", "date": "{date}"}
    lines = [list(columns), ["---"] * len(columns)]
    lines += [[cell(template, row) for template in columns.values()] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def render(results: pathlib.Path, out: pathlib.Path) -> None:
    """Writes RESULTS.md and plots/ on all lines of a folder.

    Args:
        results: Folder of `<benchmark>.jsonl`.
        out: Folder to write to.

    Raises:
        ValueError: A line is damaged.
    """
    rows = [row for path in sorted(results.glob("*.jsonl")) for row in read_lines(path)]
    machines = dict.fromkeys(map(_machine, rows))
    parts = [_INTRODUCTION]
    if all(backend in ("cpu", "described") for backend, _ in machines):
        parts.append(_NO_ACCELERATOR)
    for machine in machines:
        here = [row for row in rows if _machine(row) == machine]
        versions = here[-1]["machine"]["versions"].items()
        used = ", ".join(f"{name} {version}" for name, version in versions if version)
        parts.append(f"## {machine[1]}\n\n{used}\n")
        for section in sections.SECTIONS:
            # The latest of a case takes the place of the earlier ones.
            latest = {row["case"]: row for row in here if row["section"] is section}
            if latest:
                parts.append(_show(section, list(latest.values()), machine[1], out / "plots"))
    with replacing(os.fspath(out / "RESULTS.md")) as temporary:
        pathlib.Path(temporary).write_text("\n".join(parts))


def _machine(row: sections.Row) -> tuple[str, str]:
    """Returns the backend, and the device in words."""
    machine = row["machine"]
    if machine["backend"] == "described":
        return "described", f"{machine['device']}, by its compiler"
    return machine["backend"], f"{machine['device']}, {machine['cores']} cores"


def _show(
    section: sections.Section, rows: list[sections.Row], machine: str, plots: pathlib.Path
) -> str:
    """Returns a section's Markdown, and writes its plot."""
    text = f"### {section.title}\n\n{section.text}\n\n{table(section, rows)}\n"
    drawn = [row for row in rows if not section.drawn or section.drawn in row]
    if section.plot is None or not drawn:
        return text
    name = re.sub(r"\W+", "-", f"{section.benchmark}-{machine}").lower() + ".png"
    figure = Figure(figsize=(7, 2 + 0.22 * len(rows)), layout="constrained")
    axes = figure.subplots()
    section.plot(axes, drawn)
    axes.set_title(section.title, fontsize="medium")
    plots.mkdir(parents=True, exist_ok=True)
    with replacing(os.fspath(plots / name)) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    return f"{text}\n![{section.title}]({plots.name}/{name})\n"


if __name__ == "__main__":
    render(FOLDER, FOLDER.parent)
    print(FOLDER.with_name("RESULTS.md"))
