"""Makes a cohort for demonstrations: simulated, or real recordings with synthetic risk factors.

Example:
    python tools/simulate_cohort.py --out cohort --patients 800
    python tools/simulate_cohort.py --out cohort --recordings ptb-xl/records500
"""

from absl import flags

from clef_jax.cli import tool
from clef_jax.data.demo.cohort import write_cohort_of_recordings, write_simulated_cohort

OUT = flags.DEFINE_string("out", None, "Folder to write.", required=True)
PATIENTS = flags.DEFINE_integer("patients", 800, "Patients to simulate.")
SEED = flags.DEFINE_integer("seed", 0, "Seed of all random numbers.")
RECORDINGS = flags.DEFINE_string(
    "recordings",
    None,
    "Folder of real WFDB recordings. Writes only the two tables, with real age and sex where known "
    "and MADE-UP smoking, blood pressure, cholesterol and diabetes.",
)


def main():
    """Writes the cohort and prints what it is."""
    if RECORDINGS.value:
        records, metadata = write_cohort_of_recordings(RECORDINGS.value, OUT.value, SEED.value)
    else:
        records, metadata = write_simulated_cohort(OUT.value, PATIENTS.value, SEED.value)
    kind = f"real recordings of {RECORDINGS.value}" if RECORDINGS.value else "simulated recordings"
    print(f"{OUT.value}: {len(records):,} {kind}, {len(metadata):,} patients")
    print(
        f"Age known for {metadata['age'].notna().sum():,} (median {metadata['age'].median():.0f}), "
        f"sex for {metadata['sex'].notna().sum():,}"
    )
    if RECORDINGS.value:
        print("SYNTHETIC: smoker, blood pressure, cholesterol, diabetes and its values.")


if __name__ == "__main__":
    tool.run(main)
