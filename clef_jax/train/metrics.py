"""What a run reports: `metrics.jsonl`, one progress line, and optionally TensorBoard."""

import contextlib
import json
import math
import os
import pathlib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from tqdm import tqdm

from clef_jax.files import replacing

METRICS = "metrics.jsonl"

_T = TypeVar("_T")


def write_json(path: pathlib.Path, content: Any) -> None:
    """Writes a JSON file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(os.fspath(path)) as temporary:
        pathlib.Path(temporary).write_text(json.dumps(content, indent=2) + "\n")


def read_metrics(path: str | pathlib.Path) -> list[dict[str, float]]:
    """Returns the rows of a `metrics.jsonl`, without a last line that a killed process cut off."""
    rows = []
    for line in pathlib.Path(path).read_text().splitlines():
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
    """

    def __init__(self, workdir: pathlib.Path, *, step: int, tensorboard: bool):
        path = workdir / METRICS
        if path.exists():
            kept = [row for row in read_metrics(path) if row["step"] <= step]
            with replacing(os.fspath(path)) as temporary:
                lines = "".join(json.dumps(row) + "\n" for row in kept)
                pathlib.Path(temporary).write_text(lines)
        self._file = path.open("a", buffering=1)
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

    def close(self) -> None:
        """Closes the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()


class Clock:
    """Measures throughput and waiting for data, leaving out compilation and other pauses.

    Args:
        batch_size: Records in a global batch.
        peak_records_per_s: Rate at which the devices' arithmetic would be at its peak, if known.
    """

    def __init__(self, batch_size: int, peak_records_per_s: float | None):
        self._batch_size, self._peak = batch_size, peak_records_per_s
        self._restart()

    def next_batch(self, batches: Iterator[_T]) -> _T:
        """Returns the next batch of an iterator, counting the time the step waits for it."""
        start = time.perf_counter()
        batch = next(batches)
        self._waited += time.perf_counter() - start
        self._steps += 1
        return batch

    @contextlib.contextmanager
    def paused(self):
        """Leaves out what happens inside, and the unfinished interval before it."""
        try:
            yield
        finally:
            self._restart()

    def rates(self) -> dict[str, float]:
        """Returns the rates since the last call, which must follow the end of all steps."""
        elapsed, steps, waited = time.perf_counter() - self._start, self._steps, self._waited
        self._restart()
        if not steps:
            return {}
        rates = {
            "perf/records_per_s": steps * self._batch_size / elapsed,
            "perf/data_wait_frac": waited / elapsed,
        }
        if self._peak:
            rates["perf/mfu"] = rates["perf/records_per_s"] / self._peak
        return rates

    def _restart(self) -> None:
        self._start, self._waited, self._steps = time.perf_counter(), 0.0, 0


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
