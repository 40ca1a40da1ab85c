"""A probe of planted labels, as a program to be killed.

python -m tests.evaluate.asking.probe_killed COHORT WEIGHTS OUT
"""

import pathlib
import sys

import pandas as pd

from clef_jax.evaluate.asking.encoders import contestants
from clef_jax.evaluate.asking.probing import probe_question
from clef_jax.evaluate.asking.results import results_folder
from clef_jax.evaluate.asking.sources import sources_of
from clef_jax.evaluate.features import store
from tests.evaluate.cohorts import planted, question

FRACTIONS = (0.5, 1.0)


def probe(weights, out, asked, seeds=1):
    """Writes the parts of a question; returns their paths."""
    with results_folder(out) as parts:
        encoders = contestants([weights, "random"], seeds=seeds)
        sources = sources_of(asked, encoders, out / "features", workers=0)
        probe_question(asked, sources, FRACTIONS, parts)
        return [path for path, _ in parts.tables("predictions")]


if __name__ == "__main__":
    cohort, weights, out = map(pathlib.Path, sys.argv[1:])
    store._ROWS_PER_PART = 8
    asked = question(planted(cohort, pd.read_parquet(cohort / "cohort.parquet")))
    probe(str(weights), out, asked, seeds=2)
