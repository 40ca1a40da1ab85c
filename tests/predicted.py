"""Tables of predictions of simulated models, for tests of what is computed from them."""

import numpy as np
import pandas as pd
import scipy.special

LABELS = {
    "multilabel": ("NORM", "MI", "HYP"),
    "multiclass": ("N", "S", "V"),
    "binary": ("AF",),
    "regression": ("SBP",),
}


def cohort(rng, patients, most_records=5):
    """Returns the patient of each of 1 to `most_records` records `[n]`."""
    return np.repeat(np.arange(patients), rng.integers(1, most_records + 1, patients))


def predicted(
    kind,
    *,
    models=(("good", "probe", 2.0),),
    patients=60,
    seed=0,
    seeds=(0,),
    fraction=1.0,
    labels=None,
    prevalence=0.35,
    splits=("validation", "test"),
    task="simulated/task",
    lead="I",
    most_records=3,
):
    """Returns rows as `evaluate.statistics.predictions` wants them.

    Args:
        models: (name, mode, strength): how far apart the scores of positives and negatives lie, or
            how much of a quantity is explained.
    """
    labels = labels or LABELS[kind]
    frames = []
    for number, split in enumerate(splits):
        rng = np.random.default_rng((seed, number))
        patient = cohort(rng, patients, most_records)
        n = len(patient)
        if kind == "regression":
            target = rng.normal(120, 15, (patients, 1))[patient] + rng.normal(0, 5, (n, 1))
        elif kind == "multiclass":
            target = np.eye(len(labels))[rng.integers(len(labels), size=patients)[patient]]
        else:
            target = (rng.random((patients, len(labels))) < prevalence).astype(float)[patient]
        about = pd.DataFrame(
            {
                "example": [f"{split}-{k:05}" for k in range(n)],
                "patient": [f"{split}-p{k:04}" for k in patient],
                "split": split,
                "age": rng.integers(25, 90, patients).astype(float)[patient],
                "sex": np.where(rng.random(patients) < 0.5, "male", "female")[patient],
                "site": np.where(rng.random(patients) < 0.5, "north", "south")[patient],
            }
        )
        for name, mode, strength in models:
            for training in seeds:
                score = _score(rng, kind, target, strength, patient)
                for column, label in enumerate(labels):
                    frames.append(
                        about.assign(
                            task=task,
                            preset="clean",
                            lead=lead,
                            mode=mode,
                            model=name,
                            fraction=fraction,
                            seed=training,
                            label=label,
                            target=target[:, column],
                            score=score[:, column],
                        )
                    )
    return pd.concat(frames, ignore_index=True)


def _score(rng, kind, target, strength, patient):
    noise = rng.normal(size=target.shape) + rng.normal(size=target.shape)[patient]
    if kind == "regression":
        share = strength / (1 + strength)
        return 120 + share * (target - 120) + 5 * noise
    odds = strength * (target - 0.5) + noise
    return (
        scipy.special.softmax(odds, axis=1) if kind == "multiclass" else scipy.special.expit(odds)
    )
