"""What is probed: the features of encoders and of baselines, each computed when it is asked for."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from clef_jax.data.recordings import RecordingError
from clef_jax.data.recordings.formats import open_hinted
from clef_jax.data.windows.cut import WindowSettings, choose_leads_of
from clef_jax.errors import ClefError
from clef_jax.evaluate.asking.encoders import Contestant
from clef_jax.evaluate.asking.question import Question
from clef_jax.evaluate.asking.reading import reading_of, with_train_scale
from clef_jax.evaluate.asking.results import digest
from clef_jax.evaluate.features.baselines import HEART_RATE, demographics
from clef_jax.evaluate.features.compute import (
    Compute,
    Features,
    embedding,
    stored_features,
    windows_of,
)
from clef_jax.evaluate.windows.inputs import Measured


class EncoderLeadsError(ClefError):
    """An encoder of several leads, and recordings or a preparation of one."""


@dataclasses.dataclass(frozen=True)
class Source:
    """Something whose features are probed.

    Attributes:
        mode: As results call it: "probe" of an encoder, "baseline" of what needs none.
        model: As results call it.
        features: Computes them, or finds them computed. Of a constant there are no columns.
        seed: Of what is random about it.
        weights: SHA-256 of an encoder's parameters; "" without.
        reading: How windows are read: a hash; "" where they are not.
    """

    mode: str
    model: str
    features: Callable[[], Features]
    seed: int = 0
    weights: str = ""
    reading: str = ""


def sources_of(
    question: Question, encoders: Sequence[Contestant], folder: pathlib.Path, workers: int
) -> list[Source]:
    """Returns the encoders and the baselines that a question is put to.

    Args:
        question: What is asked.
        encoders: Of whom.
        folder: Of features computed once.
        workers: Reading processes; 0 reads in this one.

    Raises:
        EncoderLeadsError: An encoder sees several leads, the recordings or the preparation one.
    """
    embedded = [_embeddings(question, one, folder, workers) for one in encoders]
    return embedded + _baselines(question, folder, workers)


def _embeddings(question: Question, one: Contestant, folder: pathlib.Path, workers: int) -> Source:
    """Returns the embeddings of a question's windows by one encoder."""
    require_leads(question, one)
    reading = reading_of(question, one.encoder)

    @functools.cache
    def features() -> Features:
        return stored_features(
            windows_of(question.examples),
            with_train_scale(reading, question, folder, workers),
            embedding(one.encoder.forward),
            folder / f"{one.weights[:16]}-{reading.hash}",
            {"weights": one.weights, "model": one.encoder.config.name, "reading": reading.hash},
            hints=question.examples.hints,
            workers=workers,
            title=f"embedding by {one.name}",
        )

    return Source("probe", one.name, features, one.seed, one.weights, reading.hash)


def require_leads(question: Question, one: Contestant) -> None:
    """Raises EncoderLeadsError unless the recordings have what an encoder sees at once."""
    config = one.encoder.config
    if config.in_channels == 1:
        return
    sees = f"{one.name}: sees {config.in_channels} leads at once"
    remedy = "choose weights of one lead"
    if question.preparation is not None:
        raise EncoderLeadsError(
            f"{sees}, but preset {question.preset} prepares one; {remedy}, or --preset clean"
        )
    settings = WindowSettings(one.encoder.preprocessing, channels=config.in_channels)
    for window in windows_of(question.examples):
        try:
            recording = open_hinted(window.file, question.examples.hints)
        except RecordingError:
            continue  # It is reported where it is to be read.
        try:
            choose_leads_of(recording, settings)
        except RecordingError as error:
            raise EncoderLeadsError(f"{sees}: {error}; {remedy}") from None
        return


def _baselines(question: Question, folder: pathlib.Path, workers: int) -> list[Source]:
    table, is_regression = question.examples.table, question.info.kind == "regression"

    @functools.cache
    def measured() -> Features:
        identity: Compute = iter
        return stored_features(
            windows_of(question.examples),
            Measured(),
            identity,
            folder / "measured",
            {"reading": Measured().hash},
            hints=question.examples.hints,
            workers=workers,
            title="measuring",
        )

    def constant() -> Features:
        return Features(np.zeros((len(table), 0), np.float32), [])

    def heart_rate() -> Features:
        found = measured()
        return Features(found.values[:, HEART_RATE : HEART_RATE + 1], found.unread)

    reading = Measured().hash
    sources = [
        Source("baseline", "mean" if is_regression else "prevalence", constant),
        Source("baseline", "heart rate", heart_rate, reading=reading),
        Source("baseline", "plain measurements", measured, reading=reading),
    ]
    people = demographics(table)
    if people is not None:
        features = functools.partial(Features, people, [])
        sources.append(Source("baseline", "age and sex", features, reading=digest(people.tolist())))
    return sources
