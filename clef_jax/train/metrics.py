"""What a run reports: `metrics.jsonl`, one progress line, and optionally TensorBoard."""

import json
import math
import os
import pathlib
import sys
from collections.abc import Mapping
from typing import TextIO

from tqdm import tqdm

from clef_jax import stores
from clef_jax.files import replacing
from clef_jax.train.claim import Claim

METRICS = "metrics.jsonl"


def read_metrics(path: str | pathlib.Path) -> list[dict[str, float]]:
    """Returns the rows of a `metrics.jsonl`, without a last line that a killed process cut off."""
    rows = []
    for line in stores.read_bytes(path).decode().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


class MetricsLog:
    """Appends rows to `metrics.jsonl` in the workdir, and to TensorBoard where asked.

    Args:
        workdir: The run's folder.
        step: Rows after this step are dropped: the run they came from was killed, and writes them
            again.
        tensorboard: Also write event files for TensorBoard, which needs the extra `tensorboard`.
        claim: The run's to a workdir in a store.
    """

    def __init__(
        self, workdir: pathlib.Path, *, step: int, tensorboard: bool, claim: Claim | None = None
    ):
        path = workdir / METRICS
        lines = ""
        if path.exists():
            kept = [row for row in read_metrics(path) if row["step"] <= step]
            lines = "".join(json.dumps(row) + "\n" for row in kept)
        self._file: TextIO | stores.GrowingText
        if claim is None:
            with replacing(os.fspath(path)) as temporary:
                pathlib.Path(temporary).write_text(lines)
            self._file = path.open("a", buffering=1)
        else:
            self._file = stores.GrowingText(path, lines, claim.require)
        self._board = None
        if tensorboard:
            import tensorboardX  # An extra; the loop has made sure of it.

            folder = str(workdir / "tensorboard")
            self._board = tensorboardX.SummaryWriter(folder, purge_step=step + 1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Appends one row; values that are not finite (uniformity at divergence) are left out."""
        row = {name: value for name, value in values.items() if math.isfinite(value)}
        self._file.write(json.dumps({"step": step, **row}) + "\n")
        if self._board is not None:
            for name, value in row.items():
                self._board.add_scalar(name, value, step)

    def flush(self) -> None:
        """Has every row so far in its file, for a state to be saved that goes on after them.

        Raises:
            WorkdirInUse: Another run has taken over the workdir.
        """
        self._file.flush()

    def close(self) -> None:
        """Closes the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def progress_bar(total: int, done: int, *, enabled: bool) -> tqdm:
    """Returns the run's progress line: step, rate, ETA, and a postfix for the metrics."""
    interactive = sys.stderr.isatty()
    return tqdm(
        total=total,
        initial=done,
        unit="step",
        disable=not enabled,
        mininterval=0.5 if interactive else 20,
        maxinterval=1 if interactive else 60,
        dynamic_ncols=interactive,
    )
