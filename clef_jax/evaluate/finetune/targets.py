"""What a head's outputs stand for: labels in, targets to train on; outputs in, scores to show."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import expit, softmax

from clef_jax.evaluate.finetune.inputs import Inputs
from clef_jax.evaluate.finetune.options import FinetuneError


@dataclasses.dataclass(frozen=True)
class Targets:
    """The meaning of outputs.

    Attributes:
        kind: "multilabel", "multiclass", "binary" or "regression".
        classes: Names of the labels, of the classes, of the positive, or of the targets.
        unit: Of a regression's targets.
        mean: Of each target among the training examples, in its unit; none but in regression.
        sd: Its standard deviation.
    """

    kind: str
    classes: tuple[str, ...]
    unit: str = ""
    mean: tuple[float, ...] = ()
    sd: tuple[float, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON has them."""
        fields = dataclasses.asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Targets":
        """Returns what `to_dict` made `stored` of."""
        tuples = {name: tuple(stored[name]) for name in ("classes", "mean", "sd")}
        return cls(kind=stored["kind"], unit=stored["unit"], **tuples)

    def standardised(self, labels: np.ndarray) -> np.ndarray:
        """Returns what is trained on, float32 `[N, L]`: labels as they are but in regression."""
        if self.kind == "regression":
            labels = (labels - np.array(self.mean)) / np.array(self.sd)
        return labels.astype(np.float32)

    def scores(self, outputs: np.ndarray, temperature: Sequence[float] = ()) -> np.ndarray:
        """Returns probabilities, or values in their unit, float64 `[N, classes]`.

        Args:
            outputs: The head's `[N, outputs]`. A row with NaN stays one.
            temperature: Of each label, what divides its logit; none divides by one.
        """
        outputs = outputs.astype(np.float64)
        if self.kind == "regression":
            count = len(self.classes)
            return outputs[:, :count] * np.array(self.sd) + np.array(self.mean)
        if self.kind == "multiclass":
            return softmax(outputs, axis=1)
        return expit(outputs / np.array(temperature) if temperature else outputs)

    def by_class(self, labels: np.ndarray) -> np.ndarray:
        """Returns labels beside the scores `[N, classes]`: of a multiclass task 1 and 0."""
        if self.kind != "multiclass":
            return labels
        hot = (labels == np.arange(len(self.classes))).astype(np.float64)
        return np.where(np.isfinite(labels), hot, np.nan)


def targets_of(inputs: Inputs) -> Targets:
    """Returns what outputs for these inputs stand for, by their training examples.

    Raises:
        FinetuneError: A regression's target never varies.
    """
    about: dict[str, Any] = {}
    if inputs.kind == "regression":
        known = inputs.labels[inputs.rows("train")]
        mean, sd = np.nanmean(known, axis=0), np.nanstd(known, axis=0)
        if constant := [name for name, s in zip(inputs.classes, sd, strict=True) if not s > 0]:
            raise FinetuneError(
                f"target {', '.join(constant)}: all training examples have the same value, of "
                "which nothing can be learnt"
            )
        about = {"mean": tuple(mean.tolist()), "sd": tuple(sd.tolist())}
    return Targets(inputs.kind, tuple(inputs.classes), inputs.unit, **about)
