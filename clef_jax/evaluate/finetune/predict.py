"""Predictions of recordings: the table of `clef-jax predict`, by the path of `clef-jax embed`."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from clef_jax.data.recordings.recording import Hints
from clef_jax.data.windows.cut import WindowSettings
from clef_jax.data.windows.pool import Request
from clef_jax.evaluate.finetune.options import FinetuneError
from clef_jax.evaluate.finetune.saved import TrainedHead
from clef_jax.inference.run import EmbedReport, write_table
from clef_jax.inference.stored import windows_columns, windows_schema
from clef_jax.inference.stream import EmbeddedBlock


@dataclasses.dataclass(frozen=True)
class PredictionRows:
    """A row for each (window, lead) and label: `label`, `score` and `positive`.

    `score` is the calibrated probability, or the value in its unit, and null where the window held
    no usable signal; `positive` is null there, in regression, and without a threshold.
    """

    head: TrainedHead

    @property
    def per_window(self) -> int:
        """Rows for each window of one lead."""
        return len(self.head.targets.classes)

    def schema(self, metadata: Mapping[str, Any]) -> pa.Schema:
        """Returns the schema of the table."""
        fields = [("label", pa.string()), ("score", pa.float64()), ("positive", pa.bool_())]
        return windows_schema([pa.field(*field) for field in fields], metadata)

    def of_block(self, block: EmbeddedBlock, schema: pa.Schema) -> pa.Table:
        """Returns the rows of a block, whose embedding is the network's outputs."""
        classes = self.head.targets.classes
        scores = self.head.scores(block.embedding)
        positive = self.head.positives(scores).reshape(-1)
        columns = [
            *windows_columns(block.block, len(classes)),
            pa.array(list(classes) * len(scores), pa.string()),
            pa.array(scores.reshape(-1), from_pandas=True),
            pa.array(positive == 1, mask=np.isnan(positive)),
        ]
        return pa.Table.from_arrays(columns, schema=schema)


def predict_to_table(
    head: TrainedHead,
    paths: Sequence[str],
    out: str | os.PathLike,
    *,
    leads: tuple[str, ...] | None = None,
    stride_s: float | None = None,
    pad: bool = False,
    hints: Hints | None = None,
    batch_size: int | None = None,
    workers: int = 2,
    overwrite: bool = False,
    progress: bool = True,
) -> EmbedReport:
    """Predicts every recording under `paths` into a Parquet table, see `PredictionRows`.

    Recordings that the table holds are skipped, as `embed_to_table` does, whose other arguments
    and errors these are.

    Args:
        head: From `load_head`.
        paths: Files, folders, shards folders or glob patterns.
        out: The table.
        leads: As of `WindowSettings`; the lead that the head was trained on by default.
        stride_s: From one window's start to the next, seconds; a window's length by default.
        pad: Whether a recording shorter than one window is padded.
        hints: What is said of recordings beside their files.
        batch_size: Windows that a device computes at once.
        workers: Reading processes; 0 reads in this one.
        overwrite: Whether recordings that the table holds are predicted again.
        progress: Whether to draw a progress bar.

    Raises:
        FinetuneError: The head was trained on inputs that recordings are not made into here.
    """
    if head.preparation is not None:
        raise FinetuneError(
            "the head was trained on inputs that were not prepared as its encoder's are "
            f"({head.preparation}); predict only reads recordings as the encoder needs them: "
            "train a head on the clean preset"
        )
    settings = WindowSettings(
        preprocessing=head.encoder.preprocessing,
        leads=leads or (head.lead,),
        stride_s=stride_s,
        pad=pad,
    )
    return write_table(
        head.encoder,
        head.forward,
        PredictionRows(head),
        paths,
        out,
        Request(settings, hints or Hints()),
        about={"head": head.record()},
        batch_size=batch_size,
        workers=workers,
        overwrite=overwrite,
        progress=progress,
    )
