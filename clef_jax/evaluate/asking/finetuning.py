"""Modes "finetune", "frozen" and "scratch": encoders trained for a question, piece by piece."""

import dataclasses
import itertools
import pathlib
from collections.abc import Sequence

import numpy as np
from absl import logging

from clef_jax.evaluate.asking.encoders import Contestant, is_untrained
from clef_jax.evaluate.asking.piece import Piece
from clef_jax.evaluate.asking.probe import targets_of, training_rows
from clef_jax.evaluate.asking.question import Question
from clef_jax.evaluate.asking.reading import reading_of, with_train_scale
from clef_jax.evaluate.asking.results import Parts, digest
from clef_jax.evaluate.asking.sources import require_leads
from clef_jax.evaluate.finetune import (
    FinetuneError,
    Inputs,
    Options,
    finetune,
    reference_options,
)
from clef_jax.evaluate.finetune.options import Mode
from clef_jax.evaluate.finetune.prepared import inputs_of_examples
from clef_jax.evaluate.metrics.calibration import fit_temperature
from clef_jax.evaluate.windows.inputs import Prepared, Reading, Unread
from clef_jax.train.recorder import NonFiniteLoss


def finetune_question(
    question: Question,
    encoders: Sequence[Contestant],
    mode: Mode,
    fractions: Sequence[float],
    seeds: int,
    out: pathlib.Path,
    parts: Parts,
    workers: int,
) -> None:
    """Trains every encoder, and writes the predictions that are not written yet.

    Args:
        question: What is asked.
        encoders: Of whom; untrained ones are trained once each, by their own seed. From "scratch"
            those of one size and preprocessing are one.
        mode: What is trained.
        fractions: Shares of the training patients to learn from.
        seeds: Trainings of each encoder.
        out: The folder of results; trainings go to `heads`, features' scales to `features`.
        parts: Where predictions go: "predictions" by `results.SLOT`.
        workers: Reading processes; 0 reads in this one.

    Raises:
        UnreadableError: More than 5 % of the windows cannot be read.
        EncoderLeadsError, FinetuneError: An encoder sees several leads.
    """
    for one in encoders:
        require_leads(question, one)
        if one.encoder.config.in_channels > 1:
            raise FinetuneError(
                f"{one.name}: sees {one.encoder.config.in_channels} leads at once, and training is "
                "of one; leave it out, or choose --mode probe"
            )
    read = _Read(question, out / "features", workers)
    for one in _of_sizes(encoders) if mode == "scratch" else encoders:
        reading = reading_of(question, one.encoder)
        of_one = (one.seed,) if is_untrained(one) and mode != "scratch" else range(seeds)
        for fraction, seed in itertools.product(fractions, of_one):
            piece = Piece(
                question,
                parts,
                mode,
                one.encoder.config.name if mode == "scratch" else one.name,
                fraction,
                seed,
                weights="" if mode == "scratch" else one.weights,
                reading=reading.hash,
                method=dataclasses.asdict(_options(question, mode)),
            )
            if not piece.is_final():
                _train(piece, one, *read.inputs(reading), out / "heads")


def _of_sizes(encoders: Sequence[Contestant]) -> list[Contestant]:
    sizes = {(one.encoder.config, one.encoder.preprocessing): one for one in reversed(encoders)}
    return list(sizes.values())[::-1]


def _options(question: Question, mode: Mode) -> Options:
    if question.preset == "reference":
        return reference_options(question.info.name, mode)
    return Options(mode=mode)


class _Read:
    """The inputs of a question, read by each reading once, when they are first asked for."""

    def __init__(self, question: Question, folder: pathlib.Path, workers: int):
        self._question, self._folder, self._workers = question, folder, workers
        self._found: dict[str, tuple[Inputs, list[Unread]]] = {}

    def inputs(self, reading: Reading) -> tuple[Inputs, list[Unread]]:
        if reading.hash not in self._found:
            self._found[reading.hash] = inputs_of_examples(
                self._question.info,
                self._question.examples,
                with_train_scale(reading, self._question, self._folder, self._workers),
                preparation={"hash": reading.hash} if isinstance(reading, Prepared) else None,
                workers=self._workers,
            )
        return self._found[reading.hash]


def _train(
    piece: Piece, one: Contestant, inputs: Inputs, unread: list[Unread], heads: pathlib.Path
) -> None:
    """Trains an encoder and writes the piece, unless it is there with the same left out."""
    if piece.is_written(unread):
        return
    question = piece.question
    examples, info = question.examples, question.info
    names = examples.table["example"].astype(str)
    train = training_rows(examples.table, piece.fraction) & names.isin(inputs.example).to_numpy()
    targets = targets_of(examples.table, examples.labels, info.kind, len(info.classes))
    try:
        found = finetune(
            one.encoder,
            _without_others(inputs, set(names[train])),
            Options(**piece.method),
            heads / digest(piece.slot | {"key": piece.key(unread)}),
            seeds=(piece.seed,),
            temperature=lambda target, score: fit_temperature(target, score).value,
        )
    except (FinetuneError, NonFiniteLoss) as error:
        # Other trainings are none the worse for it.
        logging.warning("%s, %s: not trainable: %s", info.name, piece.model, error)
        scores = np.full(targets.shape, np.nan)
        predicted = names.isin(inputs.example).to_numpy()
    else:
        table = found.predictions.pivot(index="example", columns="label", values="score")
        scores = table.reindex(names)[list(question.names)].to_numpy(np.float64, copy=True)
        predicted = np.isfinite(scores).all(axis=1)
        if info.kind != "regression":
            scores[:, _of_one_class(targets[train])] = np.nan
    piece.write(targets, scores, predicted, unread)


def _without_others(inputs: Inputs, training: set[str]) -> Inputs:
    """Returns inputs whose training examples are those named alone."""
    kept = (inputs.split != "train") | np.isin(inputs.example, list(training))
    if kept.all():
        return inputs
    fields = ("x", "labels", "split", "patient", "example")
    return dataclasses.replace(inputs, **{name: getattr(inputs, name)[kept] for name in fields})


def _of_one_class(targets: np.ndarray) -> np.ndarray:
    """Returns which columns `[n, labels]` hold no 0 or no 1, so that nothing tells them apart."""
    return ~((targets == 0).any(axis=0) & (targets == 1).any(axis=0))
