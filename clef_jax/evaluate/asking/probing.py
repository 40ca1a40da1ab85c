"""Mode "probe": linear probes of encoders and of what needs none, piece by piece."""

import os
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from clef_jax.evaluate.asking.piece import Piece
from clef_jax.evaluate.asking.probe import PROTOCOL, probe_scores, targets_of, training_rows
from clef_jax.evaluate.asking.question import Question
from clef_jax.evaluate.asking.results import Parts
from clef_jax.evaluate.asking.sources import Source
from clef_jax.evaluate.features.baselines import constant_scores, without_gaps


def probe_question(
    question: Question, sources: Sequence[Source], fractions: Sequence[float], parts: Parts
) -> None:
    """Writes the predictions of every source that are not written yet.

    Args:
        question: What is asked.
        sources: Of whom.
        fractions: Shares of the training patients to learn from.
        parts: Where they go: "predictions" by `results.SLOT`.

    Raises:
        UnreadableError: More than 5 % of the windows cannot be read.
        FeatureStoreError: Stored features were made in another way.
    """
    title = f"{question.info.name} {question.preset} {question.lead}".strip()
    with tqdm(total=len(sources) * len(fractions), desc=title, unit="probe") as bar:
        for source in sources:
            for fraction in fractions:
                _probe(question, source, fraction, parts)
                bar.update()


def _probe(question: Question, source: Source, fraction: float, parts: Parts) -> None:
    """Writes one part, unless it is there with the key of all that determines it."""
    examples, info = question.examples, question.info
    piece = Piece(
        question,
        parts,
        source.mode,
        source.model,
        fraction,
        source.seed,
        weights=source.weights,
        reading=source.reading,
        method=PROTOCOL,
    )
    if piece.is_final():
        return
    found = source.features()
    if piece.is_written(found.unread):
        return
    targets = targets_of(examples.table, examples.labels, info.kind, len(info.classes))
    read = ~examples.table["example"].isin([one.example for one in found.unread]).to_numpy()
    train = training_rows(examples.table, fraction)
    scores = _scores(question, found.values, targets, train, read)
    piece.write(targets, scores, read, found.unread)


def _scores(
    question: Question,
    features: np.ndarray,
    targets: np.ndarray,
    train: np.ndarray,
    read: np.ndarray,
) -> np.ndarray:
    """Returns float64 `[n, labels]`, NaN of what is not predicted."""
    if not features.shape[1]:
        return constant_scores(targets, train, question.info.kind)
    scores = np.full(targets.shape, np.nan)
    if not (train & read).any():
        return scores
    validation = (question.examples.table["split"] == "validation").to_numpy()
    scores[read] = probe_scores(
        question.info.kind,
        without_gaps(features, train & read)[read],
        targets[read],
        train[read],
        validation[read],
        jobs=os.cpu_count() or 1,
    )
    return scores
