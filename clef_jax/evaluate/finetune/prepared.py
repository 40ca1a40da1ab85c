"""From the examples of a task to inputs: their windows, read by the reading processes."""

import contextlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from tqdm import tqdm

from clef_jax.evaluate.features.compute import require_few_unreadable, windows_of
from clef_jax.evaluate.finetune.inputs import Inputs
from clef_jax.evaluate.finetune.options import FinetuneError
from clef_jax.evaluate.tasks.examples import Examples
from clef_jax.evaluate.tasks.task import TaskInfo
from clef_jax.evaluate.windows.inputs import Reading, Unread, read_inputs


def inputs_of_examples(
    info: TaskInfo,
    examples: Examples,
    reading: Reading,
    *,
    preparation: Mapping[str, Any] | None = None,
    workers: int,
) -> tuple[Inputs, list[Unread]]:
    """Returns examples as inputs, and those that are left out as there is nothing to read of them.

    All windows are in memory, 20 kB each at ten seconds of 500 Hz.

    Args:
        info: What is asked.
        examples: Of whom.
        reading: How a window becomes the encoder's input of one lead.
        preparation: Record of a reading that is not the encoder's own.
        workers: Reading processes; 0 reads in this one.

    Raises:
        UnreadableError: More than 5 % of the files cannot be read.
        FinetuneError: The windows are not of one length, or fit no fine-tuning.
        WorkersCannotStart: No process can be started.
    """
    table = examples.table
    x = np.empty((0, 0), np.float32)
    kept: list[int] = []
    unread: list[Unread] = []
    found = read_inputs(windows_of(examples), reading, hints=examples.hints, workers=workers)
    with contextlib.closing(found):
        for row, one in enumerate(tqdm(found, "reading", len(table), unit="ex")):
            if isinstance(one, Unread):
                unread.append(one)
                continue
            if not kept:
                x = np.empty((len(table), len(one)), np.float32)
            if len(one) != x.shape[1]:
                raise FinetuneError(
                    f"example {table['example'].iloc[row]} has a window of {len(one)} samples, "
                    f"others of {x.shape[1]}; fine-tuning needs windows of one length"
                )
            x[len(kept)] = one[:, 0]
            kept.append(row)
    require_few_unreadable(unread, len(table))
    rows = table.iloc[kept]
    return Inputs(
        x=x[: len(kept)],
        labels=rows[list(examples.labels)].to_numpy(np.float64),
        split=rows["split"].to_numpy(str),
        patient=rows["patient"].to_numpy(str),
        example=rows["example"].to_numpy(str),
        kind=info.kind,
        classes=tuple(info.classes if info.kind == "multiclass" else examples.labels),
        unit=info.unit,
        lead=str(table["lead"].mode().iloc[0]),
        task=info.name,
        preparation=preparation,
    ), unread
