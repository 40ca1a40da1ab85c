"""Modes "finetune", "frozen" and "scratch": encoders trained for a question, piece by piece."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import logging

from clef_jax.evaluate.calibration import fit_temperature
from clef_jax.evaluate.encoders import Contestant, is_untrained
from clef_jax.evaluate.finetune import (
    FinetuneError,
    Inputs,
    Options,
    finetune,
    reference_options,
)
from clef_jax.evaluate.finetune.options import Mode
from clef_jax.evaluate.finetune.prepared import inputs_of_examples
from clef_jax.evaluate.inputs import Prepared, Unread
from clef_jax.evaluate.probe import targets_of, training_rows
from clef_jax.evaluate.question import Question
from clef_jax.evaluate.reading import reading_of, with_train_scale
from clef_jax.evaluate.results import Parts, digest, part_key, predictions_table, slot_of
from clef_jax.evaluate.sources import require_leads
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
    readings: dict[str, _Read] = {}
    for one in _of_sizes(encoders) if mode == "scratch" else encoders:
        reading = reading_of(question, one.encoder)
        if reading.hash not in readings:
            readings[reading.hash] = _Read(question, one, out / "features", workers)
        of_one = (one.seed,) if is_untrained(one) and mode != "scratch" else range(seeds)
        for fraction in fractions:
            for seed in of_one:
                slot = slot_of(question, mode, _name(one, mode), fraction, seed)
                _train(question, one, readings[reading.hash], slot, out / "heads", parts)


def _of_sizes(encoders: Sequence[Contestant]) -> list[Contestant]:
    sizes = {(one.encoder.config, one.encoder.preprocessing): one for one in reversed(encoders)}
    return list(sizes.values())[::-1]


def _name(one: Contestant, mode: Mode) -> str:
    return one.encoder.config.name if mode == "scratch" else one.name


class _Read:
    """The inputs of a question by one reading, read when they are first asked for."""

    def __init__(self, question: Question, one: Contestant, folder: pathlib.Path, workers: int):
        self._question, self._encoder = question, one.encoder
        self._folder, self._workers = folder, workers
        self._found: tuple[Inputs, list[Unread]] | None = None

    @property
    def hash(self) -> str:
        return reading_of(self._question, self._encoder).hash

    def inputs(self) -> tuple[Inputs, list[Unread]]:
        if self._found is None:
            question, reading = self._question, reading_of(self._question, self._encoder)
            record = {"hash": reading.hash} if isinstance(reading, Prepared) else None
            self._found = inputs_of_examples(
                question.info,
                question.examples,
                with_train_scale(reading, question, self._folder, self._workers),
                preparation=record,
                workers=self._workers,
            )
        return self._found


def _train(
    question: Question,
    one: Contestant,
    read: _Read,
    slot: dict[str, Any],
    heads: pathlib.Path,
    parts: Parts,
) -> None:
    """Writes one part, unless it is there with the key of all that determines it."""
    examples, info, mode = question.examples, question.info, slot["mode"]
    if question.preset == "reference":
        options = reference_options(info.name, mode)
    else:
        options = Options(mode=mode)
    decided = {
        "examples": [examples.split_hash, examples.label_hash, os.path.abspath(examples.root)],
        "people": examples.people_hash,
        "hints": dataclasses.asdict(examples.hints),
        "names": question.names,
        "kind": info.kind,
        "weights": "" if mode == "scratch" else one.weights,
        "reading": read.hash,
        "options": dataclasses.asdict(options),
    }
    done = parts.about("predictions", slot) or {}
    left_out = [Unread(*unread) for unread in done.get("unread", ())]
    # Files that could not be read may have been mended since.
    if all(unread.readable for unread in left_out) and done.get("key") == part_key(
        decided, left_out
    ):
        return
    inputs, unread = read.inputs()
    key = part_key(decided, unread)
    if done.get("key") == key:
        return
    names = examples.table["example"].astype(str)
    train = training_rows(examples.table, slot["fraction"]) & names.isin(inputs.example).to_numpy()
    targets = targets_of(examples.table, examples.labels, info.kind, len(info.classes))
    validation = targets[(examples.table["split"] == "validation").to_numpy()]
    if info.kind != "regression" and _of_one_class(validation).all():
        options = dataclasses.replace(options, select_by="loss")  # No AUROC tells epochs apart.
    try:
        found = finetune(
            one.encoder,
            _without_others(inputs, set(names[train])),
            options,
            heads / digest(slot | {"key": key}),
            seeds=(slot["seed"],),
            temperature=lambda target, score: fit_temperature(target, score).value,
        )
    except (FinetuneError, NonFiniteLoss) as error:
        # Other trainings are none the worse for it.
        logging.warning("%s, %s: not trainable: %s", info.name, slot["model"], error)
        scores = np.full(targets.shape, np.nan)
        predicted = names.isin(inputs.example).to_numpy()
    else:
        table = found.predictions.pivot(index="example", columns="label", values="score")
        scores = table.reindex(names)[list(question.names)].to_numpy(np.float64, copy=True)
        predicted = np.isfinite(scores).all(axis=1)
        if info.kind != "regression":
            scores[:, _of_one_class(targets[train])] = np.nan
    made_of = {
        "fingerprint": decided["weights"],
        "preparation": read.hash,
        "split_hash": examples.split_hash,
    }
    about = {"key": key, "label_hash": examples.label_hash, "unread": unread}
    rows = predictions_table(question, targets, scores, predicted, slot | made_of)
    parts.write("predictions", slot, rows, about | made_of)


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
