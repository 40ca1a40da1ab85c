"""What a downstream task is: something about a patient that a probe is to read from embeddings."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np


@dataclasses.dataclass(frozen=True)
class Task:
    """A question about each patient, whose answers stand in the annotations.

    Attributes:
        name: As results and commands name it.
        title: As sentences and pictures begin with it.
        metric: "R²" of a number, "AUC" of yes and no.
        columns: The annotations' columns that the answers are made of.
        target: (those columns [n], by name) -> float64 [n]: the number, or 1 for yes and 0 for no;
            not finite where it is unknown.
    """

    name: str
    title: str
    metric: Literal["R²", "AUC"]
    columns: tuple[str, ...]
    target: Callable[[Mapping[str, np.ndarray]], np.ndarray]
