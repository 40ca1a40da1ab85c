"""Prints and plots what an encoder has learned, beside an untrained one and plain measurements.

python tools/report_learned.py --workdir demo/run --shards demo/shards
"""

import importlib.util
import pathlib
import sys

from absl import flags, logging

from clef_jax.cli import tool
from clef_jax.data.noise.load import load_noise_bank
from clef_jax.data.shards.store import ShardSet
from clef_jax.data.signals.leads import STANDARD_LEADS
from clef_jax.evaluate.learned.held_out import annotate_as_run
from clef_jax.evaluate.learned.recordings import choose_recordings
from clef_jax.files import only_writer, write_json
from clef_jax.hardware.compiling import keep_programs
from clef_jax.inference import load_encoder

_WORKDIR = flags.DEFINE_string(
    "workdir", None, "A run's folder, or an encoder's as `clef-jax convert` writes it."
)
_SHARDS = flags.DEFINE_string("shards", None, "Shards with held-out patients: those of the run.")
_OUT = flags.DEFINE_string("out", None, "Folder of learned.json, plots/; the workdir's by default.")
_ANNOTATIONS = flags.DEFINE_string(
    "annotations", None, "Where the tables of config.annotations lie now; as in the run if unset."
)
_LABELS = flags.DEFINE_string("labels", "", "More tables, with labels; commas between them.")
_VALIDATION = flags.DEFINE_float(
    "validation_fraction", None, "Share of patients held out; as in the run if not given."
)
_LEAD = flags.DEFINE_enum("lead", "II", STANDARD_LEADS, "Lead that is looked at.")
_MAX_PATIENTS = flags.DEFINE_integer(
    "max_patients", 10_000, "Of more patients, so many are chosen at random.", lower_bound=1
)
_NOISE = flags.DEFINE_string("noise", None, "As config.noise, for the views; the run's if unset.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of everything random.")


def main():
    """Measures, prints a sentence for each figure, and writes learned.json and its picture."""
    if importlib.util.find_spec("sklearn") is None:
        sys.exit("report_learned: the probes need scikit-learn: pip install '.[eval]' in the clone")
    from clef_jax.evaluate.learned.figures import to_json, what_was_learned
    from clef_jax.evaluate.learned.report import plot_learned, sentences

    logging.set_verbosity(logging.WARNING)  # Orbax reports every step of every load as info.
    keep_programs()
    out = pathlib.Path(_OUT.value or _WORKDIR.value)
    encoder = load_encoder(_WORKDIR.value)
    shards = ShardSet(_SHARDS.value)
    annotations = annotate_as_run(
        shards,
        encoder.meta,
        tables=_ANNOTATIONS.value,
        validation_fraction=_VALIDATION.value,
        labels=_LABELS.value,
    )
    recordings = choose_recordings(
        shards,
        annotations,
        lead=_LEAD.value,
        max_patients=_MAX_PATIENTS.value,
        seed=_SEED.value,
    )
    noise = _NOISE.value or encoder.meta.get("config", {}).get("noise") or None
    bank = load_noise_bank(noise, shards.spec).on_leads(shards.montage)
    found = what_was_learned(encoder, recordings, bank, seed=_SEED.value)
    print(*sentences(found), sep="\n")
    with only_writer(table := out / "learned.json"):
        write_json(table, to_json(found))
        plot_learned(found, out / "plots" / "learned.png")
    print(f"Written: {table}, {out / 'plots' / 'learned.png'}")


if __name__ == "__main__":
    flags.mark_flags_as_required(["workdir", "shards"])
    tool.run(main)
