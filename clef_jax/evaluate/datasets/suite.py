"""All tasks by name, and what of them is there."""

import difflib
import fnmatch
import os

from clef_jax.errors import ClefError
from clef_jax.evaluate.datasets import (
    aurorabp,
    chapman,
    icentia11k,
    mcmed,
    mimic_lvef,
    music,
    ptbxl,
)
from clef_jax.evaluate.datasets.folders import find_needs
from clef_jax.evaluate.tasks.task import Task

TASKS: dict[str, Task] = {
    task.info.name: task
    for dataset in (ptbxl, chapman, icentia11k, music, mimic_lvef, mcmed, aurorabp)
    for task in dataset.TASKS
}


class UnknownTask(ClefError):
    """A name that no task has; the message offers the nearest."""


def find_tasks(pattern: str) -> list[Task]:
    """Returns the tasks of a name, a dataset ("ptbxl"), a pattern ("*/sbp"), or "all".

    Raises:
        UnknownTask: There is none.
    """
    if pattern == "all":
        return list(TASKS.values())
    found = [
        task
        for name, task in TASKS.items()
        if fnmatch.fnmatchcase(name, pattern) or name.startswith(f"{pattern}/")
    ]
    if not found:
        near = difflib.get_close_matches(pattern, TASKS, n=3, cutoff=0.3)
        raise UnknownTask(
            f"no task {pattern!r}; the nearest are {', '.join(near or list(TASKS)[:3])} "
            "(clef-jax tasks lists all)"
        )
    return found


def missing(task: Task, root: str | os.PathLike) -> list[str]:
    """Returns which of a task's needs are neither in a folder nor below it."""
    paths = find_needs(root, task.needs, task.apart)
    return [need for need in task.needs if need not in paths]
