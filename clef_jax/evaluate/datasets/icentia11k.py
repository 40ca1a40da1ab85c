"""Icentia11k: which beat is in the middle of a window, and which rhythm a window shows.

11,000 patients wore a patch of one lead (250 Hz) for up to two weeks; a record is a segment of
about 70 minutes. Each preset picks few windows of each patient, as segments hold thousands.
"""

import os
import random
from collections.abc import Iterator

import numpy as np
import pandas as pd

from clef_jax.data.recordings.recording import RecordingError
from clef_jax.data.recordings.wfdb_header import read_header
from clef_jax.evaluate.datasets.beats import Annotations, read_annotations
from clef_jax.evaluate.datasets.folders import MOST_ABSENT, DatasetError, require_needs
from clef_jax.evaluate.datasets.splits import split_patients
from clef_jax.evaluate.tasks.examples import (
    CLASS,
    Examples,
    ExamplesError,
    first_few,
    joined,
    require_disjoint,
    require_testable_classes,
)
from clef_jax.evaluate.tasks.task import Task, TaskInfo
from clef_jax.evaluate.windows.preparation import Preparation

NEEDS = ("p00", "RECORDS")
CLASSES = {"beat": ("N", "S", "V"), "rhythm": ("N", "AFIB", "AFL")}
_WINDOW_S = 10.0
# Of a patient and class, in `clean`; of a rhythm within one episode.
_WINDOWS = 3
_REFERENCE_SEED = 42


def reference_preparation() -> Preparation:
    """Returns what the original does to a window: filter at 250 Hz, then Fourier resampling."""
    return Preparation(resampling="fourier", band_first=True)


def _centred(found: Annotations, wanted: str, length: int) -> list[int]:
    return (found.sample[found.beat == wanted] - length // 2).tolist()


def _onsets(found: Annotations, wanted: str, length: int) -> list[int]:
    return [episode.start for episode in found.episodes if episode.rhythm == wanted]


def _within_an_episode(found: Annotations, wanted: str, length: int) -> list[int]:
    """Returns where windows that show one rhythm only begin, spread over its longest episode."""
    episodes = [e for e in found.episodes if e.rhythm == wanted and e.stop - e.start >= length]
    if not episodes:
        return []
    longest = max(episodes, key=lambda episode: episode.stop - episode.start)
    count = min(_WINDOWS, (longest.stop - longest.start) // length)
    return np.linspace(longest.start, longest.stop - length, count).astype(int).tolist()


def _segments(folder: str, patient: str) -> Iterator[tuple[str, str, float, int, Annotations]]:
    """Yields file, lead, rate, samples and annotations of each segment of a patient in order."""
    inside = f"{patient[:3]}/{patient}"
    with open(os.path.join(folder, inside, "RECORDS"), encoding="utf-8") as stream:
        names = stream.read().split()
    for name in names:
        header = read_header(os.path.join(folder, inside, name))
        found = read_annotations(header.path, header.samples)
        yield f"{inside}/{name}", header.leads[0], header.fs, header.samples, found


def _pick_reference(folder: str, patient: str, task: str, draw: random.Random) -> list[tuple]:
    """Picks one window a class: a random occurrence in the first segment that has the class.

    Q5: where that window crosses an end of the segment it is dropped, and the class is not looked
    for any further. Q6: a rhythm's window begins at the onset, however short the episode is.
    """
    starts_of = _centred if task == "beat" else _onsets
    missing, picked = set(CLASSES[task]), []
    for file, lead, fs, samples, found in _segments(folder, patient):
        length = round(_WINDOW_S * fs)
        for wanted in [name for name in CLASSES[task] if name in missing]:
            if starts := starts_of(found, wanted, length):
                missing.discard(wanted)
                start = draw.choice(starts)
                if 0 <= start <= samples - length:
                    picked.append((file, lead, start / fs, wanted, None))
        if not missing:
            break
    return picked


def _pick_clean(folder: str, patient: str, task: str) -> list[tuple]:
    """Picks up to three windows a class in the first segment with any that fit it.

    Around beats they are drawn at random, each an episode of its own; of a rhythm they lie wholly
    within one episode, which they share.
    """
    draw = np.random.default_rng([0, *patient.encode()])
    missing, picked = set(CLASSES[task]), []
    for file, lead, fs, samples, found in _segments(folder, patient):
        length = round(_WINDOW_S * fs)
        for wanted in [name for name in CLASSES[task] if name in missing]:
            if task == "beat":
                starts = _centred(found, wanted, length)
                fitting = [start for start in starts if 0 <= start <= samples - length]
                chosen = sorted(draw.permutation(fitting)[:_WINDOWS].tolist()) if fitting else []
            else:
                chosen = _within_an_episode(found, wanted, length)
            if chosen:
                missing.discard(wanted)
            for start in chosen:
                episode = f"{file}@{start if task == 'beat' else chosen[0]}"
                picked.append((file, lead, start / fs, wanted, episode))
        if not missing:
            break
    return picked


def _reference_splits(patients: list[str], draw: random.Random) -> dict[str, str]:
    """Shuffles the patients in place and returns who is in which split: 70, 15, 15 %."""
    draw.shuffle(patients)
    train, validation = int(0.7 * len(patients)), int(0.15 * len(patients))
    names = ["train"] * train + ["validation"] * validation
    names += ["test"] * (len(patients) - len(names))
    return dict(zip(patients, names, strict=True))


def _examples(info: TaskInfo, root: str, preset: str, lead: str) -> Examples:
    """Makes the examples; `lead` does not matter, as there is one.

    `reference`: the order of RECORDS is shuffled by Python's generator, seed 42, which then picks
    the windows as well, patients in that order (undecidable in the original: whether the generator
    is the same). `clean`: disjoint patients, stratified by the classes that they have.
    """
    folder = os.path.dirname(require_needs(info, root, NEEDS)[NEEDS[0]])
    # A name that is no text is nobody's, which is told where he is looked for.
    with open(os.path.join(folder, "RECORDS"), encoding="utf-8", errors="replace") as stream:
        patients = [line.strip("/ ").rsplit("/", 1)[-1] for line in stream.read().split()]
    task = info.name.split("/")[1]
    draw = random.Random(_REFERENCE_SEED)
    split_of = _reference_splits(patients, draw) if preset == "reference" else {}
    picked, faults = [], []
    for patient in patients:
        try:
            found = (
                _pick_reference(folder, patient, task, draw)
                if preset == "reference"
                else _pick_clean(folder, patient, task)
            )
        except (OSError, ValueError, RecordingError, DatasetError) as error:
            faults.append(f"{patient} ({error})")
            continue
        picked += [(patient, *window) for window in found]
    if len(faults) > MOST_ABSENT * len(patients):
        raise DatasetError(
            f"{folder}: {len(faults):,} of {len(patients):,} patients cannot be read, such as "
            f"{first_few(faults[:2])}; the download is not whole: {info.how_to_get}"
        )
    if not picked:
        raise ExamplesError(f"{folder}: no window of {info.name} in {len(patients):,} patients")
    table = pd.DataFrame(
        picked, columns=["patient", "file", "lead", "start_s", "class_name", "episode"]
    )
    classes = table.pop("class_name").map(info.classes.index).astype("float64")
    if preset == "reference":
        table = table.drop(columns="episode").assign(split=table["patient"].map(split_of))
    else:
        strata = classes.to_numpy()[:, None] == np.arange(len(info.classes))
        table["split"] = split_patients(table["patient"], strata)
    centre = table["start_s"].map("{:.3f}".format)
    columns = {"example": table["file"] + "@" + centre + "-" + classes.astype(int).astype(str)}
    columns |= {name: table[name] for name in table.columns}
    columns |= {"window_s": _WINDOW_S, CLASS: classes}
    notes = (f"Left out as unreadable: {'; '.join(faults)}.",) if faults else ()
    examples = Examples(joined(columns, len(table)), folder, (CLASS,), notes)
    require_disjoint(examples)
    if preset == "reference":
        return examples
    return require_testable_classes(examples, info.classes)


def _info(task: str, original: str) -> TaskInfo:
    return TaskInfo(
        name=f"icentia11k/{task}",
        kind="multiclass",
        classes=CLASSES[task],
        source="Icentia11k 1.0, PhysioNet",
        licence="CC BY-NC-SA 4.0 (see the dataset's page)",
        download="1.1 TB",
        how_to_get="wget -r -N -c -np https://physionet.org/files/icentia11k-continuous-ecg/1.0/ ; "
        "of a part of it cut the file RECORDS to the patients that are there",
        citation="Tan et al., Icentia11K: an unsupervised representation learning dataset for "
        "arrhythmia subtype discovery, Computing in Cardiology 2021, doi:10.13026/kk0v-r952",
        access="open",
        original=f"At most one window a class and patient. {original} Training draws classes "
        "equally often. Band-pass at 250 Hz, Fourier resampling to 500 Hz, z-score.",
        leads=("the only lead",),
    )


def _task(name: str, original: str) -> Task:
    info = _info(name, original)
    return Task(info, NEEDS, _examples, reference_preparation())


_DROPPED = (
    "A window that crosses an end of its segment is dropped, and its class is not looked for again "
    "(Q5)."
)
TASKS = (
    _task("beat", f"10 s centred on a random N, S or V. {_DROPPED}"),
    _task(
        "rhythm",
        f"10 s from the onset of N, AFIB or AFL, also of episodes of 3 s (Q6). {_DROPPED}",
    ),
)
