"""How an encoder reads the windows of a question: by its own preprocessing, or as prepared."""

import dataclasses
import json
import os
import pathlib

from clef_jax.evaluate.asking.question import Question
from clef_jax.evaluate.asking.results import digest
from clef_jax.evaluate.features.compute import windows_of
from clef_jax.evaluate.windows.inputs import OwnPreprocessing, Prepared, Reading, train_scale
from clef_jax.evaluate.windows.preparation import Scale, Window
from clef_jax.files import write_json
from clef_jax.inference import Encoder


def reading_of(question: Question, encoder: Encoder) -> Reading:
    """Returns how an encoder reads a question's windows, but for the scale of the training ones."""
    preparation = question.preparation
    if preparation is None:
        return OwnPreprocessing(encoder.preprocessing, encoder.config.in_channels)
    if preparation.scale != "train":
        return Prepared(preparation)
    files = [[os.path.abspath(w.file), *w[2:]] for w in _training_windows(question)]
    hints = dataclasses.asdict(question.examples.hints)
    return Prepared(preparation, trained_on=digest([hints, *sorted(files)]))


def with_train_scale(
    reading: Reading, question: Question, folder: pathlib.Path, workers: int
) -> Reading:
    """Returns a reading with the scale of the training examples, where it needs that.

    Args:
        reading: From `reading_of`.
        question: What is asked.
        folder: Keeps the scale, which is computed once for all encoders.
        workers: Reading processes; 0 reads in this one.
    """
    if not isinstance(reading, Prepared) or not reading.trained_on:
        return reading
    path = folder / f"scale-{reading.hash}.json"
    if not path.exists():
        hints, windows = question.examples.hints, _training_windows(question)
        found = train_scale(windows, reading.preparation, hints=hints, workers=workers)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, found._asdict())
    scale = Scale(**json.loads(path.read_text(encoding="utf-8")))
    return dataclasses.replace(reading, train_scale=scale)


def _training_windows(question: Question) -> list[Window]:
    split = question.examples.table["split"]
    windows = windows_of(question.examples)
    return [w for w, of in zip(windows, split, strict=True) if of == "train"]
