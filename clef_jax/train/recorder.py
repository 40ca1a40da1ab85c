"""Keeps the metrics of steps on the devices until they are due, and stops a diverged run."""

import math
import pathlib
from collections.abc import Callable, Mapping

import jax
from tqdm import tqdm

from clef_jax.errors import ClefError
from clef_jax.files import write_json
from clef_jax.train.claim import Claim
from clef_jax.train.metrics import MetricsLog, progress_bar

# Steps whose results may be outstanding: enough to keep the devices busy while the host dispatches.
_IN_FLIGHT = 2

_SHOWN = {
    "train/loss": "loss {:.4f}",
    "validation/loss": "val {:.4f}",
    "perf/records_per_s": "{:.0f} rec/s",
    "perf/data_wait_frac": "data-wait {:.0%}",
    "perf/slowest_host": "slowest host {:.0f}",
    "perf/mfu": "mfu {:.0%}",
}


class NonFiniteLoss(ClefError):
    """The loss or its gradient is no longer finite; the message names the step and the records."""


class Recorder:
    """Collects each step's metrics without making the host wait for the devices.

    Args:
        log: Where rows go; None on processes that do not report.
        bar: The progress line.
        workdir: Where `nonfinite.json` goes.
        record_names: Function from a step's number (from 1) to the names of its batch's records.
    """

    def __init__(
        self,
        log: MetricsLog | None,
        bar: tqdm,
        workdir: pathlib.Path,
        record_names: Callable[[int], list[str]],
    ):
        self._log, self._bar = log, bar
        self._workdir, self._record_names = workdir, record_names
        self._pending: list[tuple[int, Mapping[str, jax.Array]]] = []
        self._latest: dict[str, float] = {}

    def add(self, step: int, values: Mapping[str, jax.Array]) -> None:
        """Notes the metrics of a step just dispatched; waits for the one before the previous."""
        self._bar.update()
        self._pending.append((step, values))
        if len(self._pending) > _IN_FLIGHT:
            jax.block_until_ready(self._pending[-1 - _IN_FLIGHT][1])

    def settle(self) -> dict[str, float]:
        """Waits for every step so far and returns the metrics of the last.

        Raises:
            NonFiniteLoss: The loss or the gradient of one of them is not finite.
        """
        for step, arrays in self._pending:
            values = {name: float(value) for name, value in jax.device_get(arrays).items()}
            if not (math.isfinite(values["loss"]) and math.isfinite(values["grad_norm"])):
                self._report_divergence(step, values)
            self._latest.update({f"train/{name}": value for name, value in values.items()})
        self._pending.clear()
        return {name: value for name, value in self._latest.items() if name.startswith("train/")}

    def write(self, step: int, row: Mapping[str, float]) -> None:
        """Writes one row of `metrics.jsonl`, and shows the latest figures."""
        self._latest.update(row)
        if self._log is not None:
            self._log.write(step, row)
        shown = (text.format(self._latest[k]) for k, text in _SHOWN.items() if k in self._latest)
        self._bar.set_postfix_str(" | ".join(shown), refresh=False)

    def flush(self) -> None:
        """Has every row so far in its place; see `MetricsLog`."""
        if self._log is not None:
            self._log.flush()

    def close(self) -> None:
        """Ends the progress line and closes the log."""
        self._bar.close()
        if self._log is not None:
            self._log.close()

    def _report_divergence(self, step: int, values: Mapping[str, float]) -> None:
        path, records = self._workdir / "nonfinite.json", self._record_names(step)
        if self._log is not None:
            shown = {name: str(value) for name, value in values.items()}
            write_json(path, {"step": step, "values": shown, "records": records})
        names = ", ".join(records[:8]) + (", …" if len(records) > 8 else "")
        raise NonFiniteLoss(
            f"loss {values['loss']} and gradient norm {values['grad_norm']} at step {step}; "
            f"records of that batch: {names} (all in {path}); lower learning_rate, set clip_norm, "
            "or look at these records"
        )


def open_recorder(
    workdir: pathlib.Path,
    record_names: Callable[[int], list[str]],
    *,
    kept_steps: int,
    done: int,
    total: int,
    tensorboard: bool,
    claim: Claim | None = None,
) -> Recorder:
    """Returns the recorder of a run, which writes and shows on process 0 alone.

    Args:
        workdir: The run's folder.
        record_names: See `Recorder`.
        kept_steps: Rows of later steps are dropped, see `MetricsLog`.
        done: Steps done.
        total: Steps of the whole run.
        tensorboard: See `MetricsLog`.
        claim: See `MetricsLog`.
    """
    reports, log = jax.process_index() == 0, None
    if reports:
        log = MetricsLog(workdir, step=kept_steps, tensorboard=tensorboard, claim=claim)
    return Recorder(log, progress_bar(total, done, enabled=reports), workdir, record_names)
