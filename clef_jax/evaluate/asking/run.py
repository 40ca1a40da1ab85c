"""What `clef-jax evaluate` does: tasks put to encoders and baselines, into one folder."""

import dataclasses
import pathlib
import time
from collections.abc import Sequence
from typing import Any, Literal

from clef_jax.errors import ClefError
from clef_jax.evaluate.asking.assembly import (
    describe_question,
    evaluate_question,
    require_same,
    write_tables,
)
from clef_jax.evaluate.asking.encoders import Contestant
from clef_jax.evaluate.asking.finetuning import finetune_question
from clef_jax.evaluate.asking.probing import probe_question
from clef_jax.evaluate.asking.question import Question
from clef_jax.evaluate.asking.results import Parts, results_folder
from clef_jax.evaluate.asking.sources import sources_of
from clef_jax.evaluate.tasks.task import Task
from clef_jax.files import write_json


class EvaluationError(ClefError):
    """A task that cannot be put to encoders; the message says why."""


@dataclasses.dataclass(frozen=True)
class Choices:
    """How tasks are asked.

    Attributes:
        mode: "probe", or what is trained: "finetune", "frozen", "scratch".
        preset: "clean" or "reference".
        leads: Each asked of by itself.
        fractions: Shares of the training patients to learn from.
        seeds: Trainings of an encoder, where it is trained.
        workers: Reading processes; 0 reads in this one.
    """

    mode: Literal["probe", "finetune", "frozen", "scratch"] = "probe"
    preset: str = "clean"
    leads: tuple[str, ...] = ("I", "II")
    fractions: tuple[float, ...] = (1.0,)
    seeds: int = 3
    workers: int = 2


@dataclasses.dataclass
class Summary:
    """What a run did.

    Attributes:
        done: Questions answered: task, preset, lead.
        not_run: Tasks that could not be asked, or not of every lead, each with the reason.
        unreadable: Examples of files that could not be read, see errors.csv.
        seconds: Wall-clock time.
    """

    done: list[dict[str, str]] = dataclasses.field(default_factory=list)
    not_run: list[dict[str, str]] = dataclasses.field(default_factory=list)
    unreadable: int = 0
    seconds: float = 0.0


def evaluate(
    tasks: Sequence[Task],
    root: str,
    encoders: Sequence[Contestant],
    choices: Choices,
    out: pathlib.Path,
    *,
    command: str = "",
) -> Summary:
    """Puts tasks to encoders and writes what comes of it.

    What the folder holds already is not computed again, whatever ended the run that did it.

    Args:
        tasks: What to ask.
        root: Folder of the dataset, or of several.
        encoders: Whom, beside the baselines.
        choices: How.
        out: The folder.
        command: The command line, for the record.

    Raises:
        ResultsError: The folder cannot be used.
    """
    begin = time.perf_counter()
    summary = Summary()
    with results_folder(out) as parts:
        for task in tasks:
            asked: set[str] = set()
            for lead in task.info.leads if len(task.info.leads) == 1 else choices.leads:
                try:
                    question = _question(task, root, choices.preset, lead)
                    if question.examples.label_hash in asked:
                        continue  # The lead changes nothing.
                    asked.add(question.examples.label_hash)
                    _answer(question, encoders, choices, out, parts, command)
                    summary.done.append(_name(question))
                except ClefError as error:
                    told = {"task": task.info.name, "reason": str(error)}
                    if told not in summary.not_run:  # What is absent is so for every lead.
                        summary.not_run.append(told)
        summary.unreadable = write_tables(out, parts)
        summary.seconds = time.perf_counter() - begin
        write_json(out / "summary.json", _record(summary, encoders, choices, command))
    return summary


def _question(task: Task, root: str, preset: str, lead: str) -> Question:
    examples = task.examples(root, preset, lead)
    found = examples.table["lead"].unique()
    for split in ("train", "validation", "test"):
        if not (examples.table["split"] == split).any():
            raise EvaluationError(
                f"{task.info.name}: no example is in {split}; models learn from train, are "
                "chosen by validation and judged by test; put patients into each, or leave out "
                "the column split"
            )
    lead = str(found[0]) if len(found) == 1 else lead
    return Question(task.info, preset, lead, examples, task.preparation(preset))


def _answer(
    question: Question,
    encoders: Sequence[Contestant],
    choices: Choices,
    out: pathlib.Path,
    parts: Parts,
    command: str,
) -> None:
    require_same(question, encoders, parts)
    probed = encoders if choices.mode == "probe" else ()
    sources = sources_of(question, probed, out / "features", choices.workers)
    probe_question(question, sources, choices.fractions, parts)
    if choices.mode != "probe":
        finetune_question(
            question,
            encoders,
            choices.mode,
            choices.fractions,
            choices.seeds,
            out,
            parts,
            choices.workers,
        )
    evaluate_question(question, parts, describe_question(question, encoders, command))


def _name(question: Question) -> dict[str, str]:
    return {"task": question.info.name, "preset": question.preset, "lead": question.lead}


def _record(
    summary: Summary, encoders: Sequence[Contestant], choices: Choices, command: str
) -> dict[str, Any]:
    return {
        **dataclasses.asdict(summary),
        "choices": dataclasses.asdict(choices),
        "command": command,
        "encoders": [
            {"name": one.name, "seed": one.seed, "weights_sha256": one.weights,
             "fingerprint": one.encoder.fingerprint}
            for one in encoders
        ],
    }  # fmt: skip
