"""Writes the page, and the short form of it for a pull request."""

import dataclasses
import os
import pathlib
import re
from collections.abc import Sequence

import jinja2
import numpy as np

from clef_jax.evaluate.report.answers import read_answers
from clef_jax.evaluate.report.pictures import draw
from clef_jax.evaluate.report.sections import Section, make_section
from clef_jax.evaluate.report.verdict import judge
from clef_jax.files import only_writer, replacing

# The page stays below 5 MB, which any browser opens at once.
_MOST_BYTES = 4_900_000
_TITLE = "Evaluation of ECG encoders"
_TOO_LARGE = "Further figures are left out for the page's size; a report of fewer runs has them."


def write_report(folders: Sequence[str], out: str | os.PathLike) -> list[Section]:
    """Writes a report of runs as one HTML file without network, and as Markdown beside it.

    Args:
        folders: Of the runs, as `read_answers` takes them.
        out: The HTML file; the other is named alike, with .md.

    Returns:
        What stands in it, a section for each task.

    Raises:
        EvaluationRunError: Runs that cannot be reported.
        PredictionsError: Predictions that cannot be scored.
    """
    answers = read_answers(folders)
    tests = sum(int(np.isfinite(one.comparisons["p"]).sum()) for one in answers)
    verdicts = [judge(one, tests) for one in answers]
    sections = [
        make_section(one, verdict, f"task-{number}")
        for number, (one, verdict) in enumerate(zip(answers, verdicts, strict=True), start=1)
    ]
    left = _MOST_BYTES - len(_render("page.html.j2", sections, tests).encode())
    for number, (one, verdict) in enumerate(zip(answers, verdicts, strict=True)):
        figures = []
        for drawn in draw(one, verdict):
            left -= len(drawn.svg.encode()) + len(drawn.caption.encode())
            if left >= 0:
                figures.append(drawn)
        sections[number] = dataclasses.replace(
            sections[number], figures=figures, left_out=_TOO_LARGE if left < 0 else ""
        )
    path = pathlib.Path(out)
    for template, target in (("page.html.j2", path), ("report.md.j2", path.with_suffix(".md"))):
        with only_writer(target), replacing(target) as temporary:
            text = _render(template, sections, tests)
            pathlib.Path(temporary).write_text(text, encoding="utf-8")
    return sections


def _render(template: str, sections: Sequence[Section], tests: int) -> str:
    return (
        _environment()
        .get_template(template)
        .render(
            title=_TITLE,
            tests=tests,
            sections=sections,
            doubtful=sum(bool(section.doubts) for section in sections),
        )
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["cell"] = _markdown_cell
    return environment


def _markdown_cell(text: str) -> str:
    """Returns text that stays within its cell and is no markup."""
    return re.sub(r"([\\`*_{}\[\]<>|#~])", r"\\\1", " ".join(str(text).split()))
