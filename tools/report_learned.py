"""Prints and plots what a pretraining run has learned, beside an untrained encoder."""

import json
import pathlib
import sys

from absl import app, flags, logging

from clef_jax import checkpoint
from clef_jax.data.noise import load_noise_bank
from clef_jax.data.pipeline import PlanError
from clef_jax.data.shards import ShardError, ShardSet
from clef_jax.evaluate.learned import FIGURES, plot_learned, what_was_learned

_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder.", required=True)
_SHARDS = flags.DEFINE_string("shards", None, "The shards it was trained on.", required=True)
_LEAD = flags.DEFINE_string("lead", "II", "Lead that the probes see.")


def main(_):
    """Measures both encoders and writes `plots/learned.png` and `learned.json` in the workdir."""
    logging.set_verbosity(logging.WARNING)  # Orbax reports every step of every load as info.
    workdir = pathlib.Path(_WORKDIR.value)
    try:
        params, meta = checkpoint.load_params(workdir)
        noise = load_noise_bank(meta["config"]["noise"] or None).signal
        found = what_was_learned(
            meta["model"]["name"], params, ShardSet(_SHARDS.value), noise, lead=_LEAD.value
        )
    except (checkpoint.CheckpointError, ShardError, PlanError) as error:
        sys.exit(f"report_learned: {error}")
    print(f"{'':40} {'untrained':>10} {'pretrained':>10}")
    for key, label in FIGURES.items():
        print(f"{label:40} {found['untrained'][key]:10.3f} {found['pretrained'][key]:10.3f}")
    plot_learned(found, workdir / "plots" / "learned.png")
    (workdir / "learned.json").write_text(json.dumps(found, indent=2) + "\n")
    print(f"Plots: {', '.join(sorted(map(str, (workdir / 'plots').glob('*.png'))))}")


if __name__ == "__main__":
    app.run(main)
