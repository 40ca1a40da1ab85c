"""What a task is: a question about recordings, where they come from, and how it is asked."""

import dataclasses
from collections.abc import Callable
from typing import Literal

from clef_jax.data.signals.leads import canonical_lead
from clef_jax.evaluate.tasks.examples import CLASS, SPLITS, Examples, ExamplesError
from clef_jax.evaluate.windows.preparation import Preparation

Kind = Literal["multilabel", "multiclass", "binary", "regression"]
PRESETS = ("clean", "reference")


@dataclasses.dataclass(frozen=True)
class TaskInfo:
    """What is to be known of a task before its files are there.

    Attributes:
        name: As commands and results name it: "ptbxl/superdiagnostic".
        kind: What is predicted.
        classes: Names of the labels (multilabel), of the classes (multiclass), of what is there or
            not (binary), of the quantity (regression).
        unit: Of a quantity; "" elsewhere.
        source: The dataset and its version.
        licence: Of the recordings, and of labels published apart from them.
        download: Size, as text.
        how_to_get: The command or page.
        citation: What to cite.
        access: Who may have it.
        original: What the original evaluation did, its quirks by number.
        leads: Leads that the recordings have, as `lead` may name them; of one, that one is taken
            whatever is asked for. Empty for leads that are not known before files are read.
    """

    name: str
    kind: Kind
    classes: tuple[str, ...]
    unit: str = ""
    source: str = ""
    licence: str = ""
    download: str = ""
    how_to_get: str = ""
    citation: str = ""
    access: Literal["open", "credentialed", "on request"] = "open"
    original: str = ""
    leads: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Task:
    """A question and how its examples are made.

    Attributes:
        info: What is known before.
        needs: Files and folders that must exist, relative to the dataset's folder; the first is
            what the folder is known by. "a or b" asks for one of two.
        make: (info, root, preset, lead) -> the examples; raises `ClefError`.
        reference: What the original does to the signals.
        apart: Those of `needs` that others publish, so that they may lie in another folder.
    """

    info: TaskInfo
    needs: tuple[str, ...]
    make: Callable[[TaskInfo, str, str, str], Examples]
    reference: Preparation | None = None
    apart: tuple[str, ...] = ()

    def examples(self, root: str, preset: str, lead: str) -> Examples:
        """Returns the examples that a dataset's folder holds, under a preset.

        Raises:
            ClefError: Files are missing or damaged, or nothing can be learned or tested on them.
        """
        return self.make(self.info, root, preset, lead)

    def preparation(self, preset: str) -> Preparation | None:
        """Returns what is done to the signals under a preset; None for the encoder's own."""
        return self.reference if preset == "reference" else None


def choose_lead(info: TaskInfo, lead: str) -> str:
    """Returns the lead to take of a task's recordings: the one asked for, or the only one.

    Raises:
        ExamplesError: There are several leads, and this is none of them.
    """
    if len(info.leads) == 1:
        return info.leads[0]
    if canonical_lead(lead) not in info.leads:
        raise ExamplesError(
            f"{info.name}: no lead {lead!r}; the recordings have {', '.join(info.leads)}"
        )
    return canonical_lead(lead)


def label_counts(info: TaskInfo, examples: Examples) -> dict[str, dict[str, int]]:
    """Returns for each split the examples, the patients, and of each label or class the positives.

    Of a quantity it is the number of known values.
    """
    counts = {}
    for split in SPLITS:
        rows = examples.of(split)
        counts[split] = {"examples": len(rows), "patients": rows["patient"].nunique()}
        if info.kind == "multiclass":
            found = rows[CLASS].value_counts()
            counts[split] |= {name: int(found.get(at, 0)) for at, name in enumerate(info.classes)}
        elif info.kind == "regression":
            counts[split] |= {name: int(rows[name].notna().sum()) for name in examples.labels}
        else:
            counts[split] |= {name: int(rows[name].sum()) for name in examples.labels}
    return counts
