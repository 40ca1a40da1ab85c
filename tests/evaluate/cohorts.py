"""Examples for tests of evaluation: simulated patients whose beats carry a label, or nobody's."""

import numpy as np
import pandas as pd

from clef_jax.evaluate.asking.question import Question
from clef_jax.evaluate.tasks.examples import Examples
from clef_jax.evaluate.tasks.task import Task, TaskInfo
from tests.wfdb_records import write_record

FS = 500


def info(kind="binary", classes=("inverted T",), name="simulated", **more):
    about = dict.fromkeys(
        ("source", "licence", "download", "how_to_get", "citation", "access", "original"), ""
    )
    return TaskInfo(name=name, kind=kind, classes=tuple(classes), **{"unit": "", **about, **more})


def write_cohort(folder, patients=60, records=1, seed=0):
    """Writes ten-second records of lead II and returns their table, labels not included.

    Of a patient: R of 1 mV, a T wave of `t_mv`, upright or inverted, and a heart rate that has
    nothing to do with it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    t = np.arange(10 * FS) / FS
    rows = []
    for patient in range(patients):
        t_mv = rng.choice([-1, 1]) * rng.uniform(0.2, 0.5)
        for record in range(records):
            name, rr = f"p{patient:03d}_{record}", rng.uniform(0.6, 1.1)
            phase = t % rr - rr / 3
            x_mv = np.exp(-0.5 * (phase / 0.01) ** 2)
            x_mv += t_mv * np.exp(-0.5 * ((phase - 0.25) / 0.04) ** 2)
            x_mv += rng.normal(0, 0.02, t.size)
            write_record(folder, name, leads=("II",), x=np.rint(1000 * x_mv)[None].astype("<i2"))
            rows.append({"example": name, "patient": f"p{patient:03d}", "file": name, "t_mv": t_mv})
    table = pd.DataFrame(rows)
    split = np.array(["train", "train", "train", "validation", "test"])
    table["split"] = split[[int(patient[1:]) % 5 for patient in table["patient"]]]
    return table.assign(lead="II", start_s=0.0, window_s=10.0)


def planted(folder, table, *, permuted=False):
    """Examples whose label is whether T is inverted, mistaken for a few, or another patient's."""
    mistaken = np.random.default_rng(0).random(len(table)) < 0.08
    label = ((table["t_mv"] < 0) ^ mistaken).astype(float)
    if permuted:
        label = np.random.default_rng(1).permutation(label)
    table = table.drop(columns="t_mv").assign(**{"inverted T": label})
    return Examples(table, str(folder), ("inverted T",))


def question(examples, about=None, preset="clean", lead="II", preparation=None):
    return Question(about or info(), preset, lead, examples, preparation)


def task(examples, about=None):
    """A task that has these examples, whatever the root."""
    return Task(about or info(), (), lambda *_: examples)
