"""Fine-tuning from arrays to heads and predictions; a killed one goes on where it stopped."""

import dataclasses
import os
import pathlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from clef_jax.checkpoints.meta import CHECKPOINTS
from clef_jax.checkpoints.patients import joined, patient_hashes, patients_in, with_patients
from clef_jax.data.noise.bank import NoiseBank
from clef_jax.evaluate.finetune.inputs import SPLITS, Inputs
from clef_jax.evaluate.finetune.options import FinetuneError, Options
from clef_jax.evaluate.finetune.records import finetune_record, require_same
from clef_jax.evaluate.finetune.saved import TrainedHead, load_head, save_head
from clef_jax.evaluate.finetune.targets import Targets, targets_of
from clef_jax.evaluate.finetune.thresholds import choose_thresholds
from clef_jax.evaluate.finetune.training import Trained, train
from clef_jax.evaluate.finetune.validation import forward_of, outputs_of
from clef_jax.inference import Encoder
from clef_jax.train.metrics import METRICS, read_metrics

# (target [n], probability [n]) of a label's validation examples -> what its logits are divided by.
FitTemperature = Callable[[np.ndarray, np.ndarray], float]

_HEAD = "head"


class FinetuneResult(NamedTuple):
    """What came of a fine-tuning.

    Attributes:
        predictions: Of validation and test, a row for each seed, example and label (of a multiclass
            task each class): seed, example, patient, split, label, target (NaN where not known),
            score.
        history: The rows of each seed's `metrics.jsonl`, with its `seed`.
        heads: Folders for `load_head`, one for each seed.
        best: The one of them that did best on validation.
    """

    predictions: pd.DataFrame
    history: pd.DataFrame
    heads: tuple[pathlib.Path, ...]
    best: pathlib.Path


def finetune(
    encoder: Encoder,
    inputs: Inputs,
    options: Options,
    folder: str | os.PathLike,
    *,
    seeds: Sequence[int] = (0,),
    noise: NoiseBank | None = None,
    temperature: FitTemperature | None = None,
) -> FinetuneResult:
    """Trains an encoder for a task, once for each seed.

    The epoch, thresholds and the temperature are chosen on the validation examples alone.

    Args:
        encoder: Of one lead. From "scratch" its size alone is used.
        inputs: What is trained on.
        options: How.
        folder: A subfolder for each seed, with `metrics.jsonl`, checkpoints until it is finished,
            and then `head/`. What is there of the same fine-tuning is not done again.
        seeds: Of the head, the order, the augmentation and, from scratch, the encoder.
        noise: What augmentation adds.
        temperature: Finds what calibrates a label; by default they stay as they are, and those of
            classes that exclude each other always do.

    Raises:
        FinetuneError: Options and inputs do not fit, or the folder holds another fine-tuning.
        KeyboardInterrupt: A signal came; the same call goes on.
        NonFiniteLoss: Training has diverged.
        WorkdirInUse: Another process runs there.
    """
    _require_inputs_of(encoder, inputs)
    targets = targets_of(inputs)
    record = finetune_record(encoder, inputs, options, noise)
    predictions, history, heads = [], [], {}
    for seed in seeds:
        place, of_seed = pathlib.Path(folder).absolute() / f"seed{seed}", record | {"seed": seed}
        if not (place / _HEAD).exists():
            trained = train(encoder, inputs, targets, options, place, of_seed, noise)
            head = _conclude(encoder, inputs, targets, options, trained, of_seed, temperature)
            save_head(place / _HEAD, head)
        head = load_head(place / _HEAD)
        require_same(head.run, of_seed)
        shutil.rmtree(place / CHECKPOINTS, ignore_errors=True)
        predictions.append(_predictions(head, inputs, seed))
        history.append(pd.DataFrame(read_metrics(place / METRICS)).assign(seed=seed))
        heads[place / _HEAD] = head.run["progress"]["best_loss"]
    return FinetuneResult(
        predictions=pd.concat(predictions, ignore_index=True),
        history=pd.concat(history, ignore_index=True),
        heads=tuple(heads),
        best=min(heads, key=lambda path: np.inf if heads[path] is None else heads[path]),
    )


def _require_inputs_of(encoder: Encoder, inputs: Inputs) -> None:
    """Raises FinetuneError unless inputs are what the encoder sees."""
    channels, samples = encoder.config.in_channels, encoder.preprocessing.samples
    if channels != 1:
        raise FinetuneError(
            f"{encoder.config.name} sees {channels} leads at once, but inputs hold one; choose "
            "weights of a single lead"
        )
    if inputs.preparation is None and inputs.x.shape[1] != samples:
        raise FinetuneError(
            f"inputs are {inputs.x.shape[1]} samples long, but {samples} by the encoder's own "
            "preprocessing, by which predictions will be made; cut such windows"
        )


def _conclude(
    encoder: Encoder,
    inputs: Inputs,
    targets: Targets,
    options: Options,
    trained: Trained,
    record: Mapping[str, Any],
    fit_temperature: FitTemperature | None,
) -> TrainedHead:
    """Returns the head of a training, with what is chosen on validation once it has ended."""
    rows = inputs.rows("validation")
    outputs = outputs_of(forward_of(trained.model, trained.params), inputs.x, rows)
    assert outputs is not None, "inputs have validation examples"
    labels = targets.by_class(inputs.labels[rows])
    temperature: tuple[float, ...] = ()
    thresholds: tuple[float, ...] = ()
    if targets.kind in ("multilabel", "binary"):
        if fit_temperature is not None:
            columns = zip(labels.T, targets.scores(outputs).T, strict=True)
            temperature = tuple(
                float(fit_temperature(label[np.isfinite(label)], score[np.isfinite(label)]))
                for label, score in columns
            )
        thresholds = choose_thresholds(targets.scores(outputs, temperature), labels, options)
    return TrainedHead(
        encoder=Encoder(
            encoder.config,
            trained.params["encoder"],
            preprocessing=encoder.preprocessing,
            meta=_meta_of(encoder, inputs, options),
        ),
        model=trained.model,
        params=trained.params,
        targets=targets,
        lead=inputs.lead,
        preparation=inputs.preparation,
        thresholds=thresholds,
        temperature=temperature,
        run={**record, "progress": dataclasses.asdict(trained.progress)},
    )


def _meta_of(encoder: Encoder, inputs: Inputs, options: Options) -> dict[str, Any]:
    """Returns the encoder's record with those it has been trained on now, or chosen by."""
    seen = patient_hashes(inputs.patient[inputs.split != "test"].astype(str))
    before = frozenset() if options.mode == "scratch" else patients_in(encoder.meta)
    return with_patients(encoder.meta, joined(before, seen))


def _predictions(head: TrainedHead, inputs: Inputs, seed: int) -> pd.DataFrame:
    rows = np.concatenate([inputs.rows(split) for split in SPLITS[1:]])
    outputs = outputs_of(head.forward, inputs.x, rows)
    assert outputs is not None, "inputs have validation examples"
    classes = inputs.classes

    def of_example(column: np.ndarray) -> np.ndarray:
        return np.repeat(column[rows], len(classes))

    return pd.DataFrame(
        {
            "seed": seed,
            "example": of_example(inputs.example),
            "patient": of_example(inputs.patient),
            "split": of_example(inputs.split),
            "label": np.tile(np.array(classes, dtype=object), len(rows)),
            "target": head.targets.by_class(inputs.labels[rows]).reshape(-1),
            "score": head.scores(outputs).reshape(-1),
        }
    )
