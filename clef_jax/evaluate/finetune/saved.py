"""An encoder's folder with a head in it: what predicts, and what its numbers mean."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from clef_jax.checkpoints.encoder import load_head_params, save_encoder
from clef_jax.checkpoints.items import leaf_types, params_sha256
from clef_jax.checkpoints.meta import CheckpointError, reading
from clef_jax.checkpoints.patients import patients_in, with_patients
from clef_jax.evaluate.finetune.targets import Targets
from clef_jax.evaluate.finetune.validation import forward_of
from clef_jax.inference import Encoder, encoder_meta, load_encoder
from clef_jax.inference.forward import Forward
from clef_jax.models import EncoderConfig, EncoderWithHead

_SHAPE = ("outputs", "kind", "dropout")


@dataclasses.dataclass(frozen=True)
class TrainedHead:
    """A head with its encoder, ready to predict.

    Attributes:
        encoder: As it was trained with the head.
        model: Both as one network.
        params: Its parameters.
        targets: What outputs stand for.
        lead: Which one it was trained on.
        preparation: How its inputs were made, as JSON has it; None for the encoder's own way.
        thresholds: Of each label, the score from which on it counts as positive; NaN where
            validation could not tell. None but for multilabel and binary tasks.
        temperature: What the logit of each label is divided by, so that its probability is
            calibrated; none where they stay as they are.
        run: The record of its training.
    """

    encoder: Encoder
    model: EncoderWithHead
    params: Any
    targets: Targets
    lead: str
    preparation: Mapping[str, Any] | None
    thresholds: tuple[float, ...]
    temperature: tuple[float, ...]
    run: Mapping[str, Any]

    @functools.cached_property
    def forward(self) -> Forward:
        """Encoder and head on all of this process's devices."""
        return forward_of(self.model, self.params)

    def scores(self, outputs: np.ndarray) -> np.ndarray:
        """Returns calibrated probabilities, or values in their unit, `[N, classes]`."""
        return self.targets.scores(outputs, self.temperature)

    def positives(self, scores: np.ndarray) -> np.ndarray:
        """Returns which scores `[N, classes]` count as positive: 1, 0, or NaN where unknown.

        Of classes that exclude each other it is the likeliest. A regression has no positives.
        """
        if self.targets.kind == "regression":
            return np.full(scores.shape, np.nan)
        if self.targets.kind == "multiclass":
            limits = scores.max(axis=1, keepdims=True)
        else:
            limits = np.broadcast_to(np.array(self.thresholds), scores.shape)
        told = np.isfinite(scores) & np.isfinite(limits)
        return np.where(told, (scores >= limits).astype(np.float64), np.nan)

    def record(self) -> dict[str, Any]:
        """Returns what its predictions depend on besides encoder and windows, as JSON has it."""
        return {
            "sha256": params_sha256(self.params["head"]),
            "targets": self.targets.to_dict(),
            "thresholds": [None if np.isnan(t) else t for t in self.thresholds],
            "temperature": list(self.temperature),
        }


def save_head(folder: str | pathlib.Path, head: TrainedHead) -> None:
    """Writes an encoder's folder with a head, which `load_encoder` reads, too.

    Raises:
        CheckpointError: The folder exists.
    """
    config, encoder = head.encoder.config, head.encoder
    params = jax.device_get(head.params)
    provenance = {"source": "clef-jax finetune", "from": encoder.meta.get("provenance", {})}
    meta = encoder_meta(config, params["encoder"], provenance, encoder.preprocessing)
    meta = with_patients(meta, patients_in(encoder.meta))
    about = head.record() | {
        "lead": head.lead,
        "preparation": head.preparation and dict(head.preparation),
        "run": dict(head.run),
        **{name: getattr(head.model, name) for name in _SHAPE},
    }
    save_encoder(folder, params["encoder"], meta | {"head": about}, head=params["head"])


def load_head(path: str | os.PathLike) -> TrainedHead:
    """Loads an encoder with the head that `save_head` wrote beside it.

    Raises:
        CheckpointError: There is no head, it is damaged, or it does not fit its encoder.
    """
    head_params = load_head_params(pathlib.Path(path))
    encoder = load_encoder(path)
    about = encoder.meta.get("head")
    if not isinstance(about, dict):
        raise CheckpointError(f"{path}: its meta record tells nothing of a head; copy it again")
    with reading(pathlib.Path(path)):
        model = EncoderWithHead(encoder.config, **{name: about[name] for name in _SHAPE})
        _require_fit(encoder.config, model, head_params, encoder.preprocessing.samples)
        thresholds = tuple(float("nan") if t is None else float(t) for t in about["thresholds"])
        return TrainedHead(
            encoder=encoder,
            model=model,
            params={"encoder": encoder.params, "head": head_params},
            targets=Targets.from_dict(about["targets"]),
            lead=about["lead"],
            preparation=about["preparation"],
            thresholds=thresholds,
            temperature=tuple(map(float, about["temperature"])),
            run=about["run"],
        )


def _require_fit(
    config: EncoderConfig, model: EncoderWithHead, head_params: Any, samples: int
) -> None:
    x = jax.ShapeDtypeStruct((1, samples, config.in_channels), jnp.float32)
    expected = jax.eval_shape(model.init, jax.random.key(0), x)["params"]["head"]
    if leaf_types(head_params) != leaf_types(expected):
        raise ValueError(
            f"head of {leaf_types(head_params)} instead of {leaf_types(expected)} for {config.name}"
        )
