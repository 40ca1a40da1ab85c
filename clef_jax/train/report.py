"""The report of a run: what it came to, in a few figures."""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from clef_jax.files import write_json
from clef_jax.train import metrics, plots
from clef_jax.train.data import RunData
from clef_jax.train.loop import Outcome
from clef_jax.train.run_state import SUMMARY


def report_run(
    outcome: Outcome,
    data: RunData,
    validation: Mapping[str, Any] | None,
    mesh: Mesh,
    folder: pathlib.Path,
) -> dict[str, Any]:
    """Writes `summary.json` and `plots/loss.png` on process 0, and returns the report.

    `validation` is `Validation.record`, if the run validates.
    """
    reports = jax.process_index() == 0
    rows = metrics.read_metrics(folder / metrics.METRICS) if reports else []
    rates = [row["perf/records_per_s"] for row in rows if "perf/records_per_s" in row]
    losses = [row["train/loss"] for row in rows if "train/loss" in row]
    step = int(outcome.state.step)
    report = {
        "status": outcome.status,
        "step": step,
        "steps": data.total_steps,
        "epochs": round(step / data.batch_rows.steps_per_epoch, 3),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(outcome.state.params["encoder"])),
        "training_patients": data.batch_rows.patients,
        "validation_patients": validation["patients"] if validation else 0,
        "first_train_loss": losses[0] if losses else None,
        "last_train_loss": losses[-1] if losses else None,
        "best_validation_loss": outcome.progress.best_loss,
        "best_step": outcome.progress.best_step,
        "records_per_s": round(float(np.median(rates)), 1) if rates else None,
        "noise": data.bank.source,
        "devices": f"{mesh.size} x {mesh.devices.flat[0].device_kind}",
    }
    if reports:
        plots.plot_losses(rows, folder / "plots" / "loss.png")
        write_json(folder / SUMMARY, report)
    return report
