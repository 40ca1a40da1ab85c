"""A task as it is asked of encoders: under one preset, of one lead."""

import dataclasses

from clef_jax.evaluate.tasks.examples import Examples
from clef_jax.evaluate.tasks.task import TaskInfo
from clef_jax.evaluate.windows.preparation import Preparation


@dataclasses.dataclass(frozen=True)
class Question:
    """A task under one preset, of one lead.

    Attributes:
        info: The task.
        preset: "clean" or "reference".
        lead: The lead.
        examples: Its examples.
        preparation: What is done to windows; None for each encoder's own preprocessing.
    """

    info: TaskInfo
    preset: str
    lead: str
    examples: Examples
    preparation: Preparation | None

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns of targets and scores: labels, or classes where they are exclusive."""
        is_multiclass = self.info.kind == "multiclass"
        return self.info.classes if is_multiclass else self.examples.labels
