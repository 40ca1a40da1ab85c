"""How a head, and the encoder below it, are trained: a value, with the original's as named ones."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal, cast

from clef_jax.errors import ClefError
from clef_jax.models.heads import HeadKind

Mode = Literal["finetune", "frozen", "scratch"]

# By the kind of a task, the losses that it can be trained by; the first unless another is named.
LOSSES: Mapping[str, tuple[str, ...]] = {
    "multilabel": ("cross_entropy", "focal"),
    "binary": ("cross_entropy", "focal"),
    "multiclass": ("cross_entropy", "focal"),
    "regression": ("absolute", "huber", "gaussian"),
}
# Highest rates of a head. Above a given encoder it sees embeddings that hardly change, and that may
# differ by thousandths only, as an untrained one's do: at 1e-3 it would end about where it began.
_RATES_OF_HEAD: Mapping[Mode, float] = {"finetune": 1e-2, "scratch": 1e-3, "frozen": 1e-2}


class FinetuneError(ClefError):
    """A fine-tuning that cannot be; the message says what there is and what to change."""


@dataclasses.dataclass(frozen=True)
class Options:
    """How to fine-tune.

    Attributes:
        mode: "finetune" trains encoder and head, "frozen" the head alone, "scratch" the same
            network from random weights, all of it at the head's rate.
        head: Which features the head maps, see `models.EncoderWithHead`.
        dropout: Share of them that training leaves out.
        loss: One of `LOSSES`; None for the kind's first.
        balanced: Whether labels count by how rare they are among the training examples: positives
            as much as negatives, every class as much as another.
        sampling: "shuffled" shows each training example once an epoch, "in order" always in the
            same (what the original does for Aurora-BP [Q13]); "balanced" draws as many, with
            replacement, so that every class is as likely (for Icentia11k and MUSIC).
        optimizer: "adamw", or "adam", whose weight decay is a part of the gradient.
        learning_rate: Highest of the head's; by default 1e-2, from random weights 1e-3.
        encoder_learning_rate: Highest of the encoder's last stage's.
        layer_decay: Ratio of a stage's rate to that of the stage after it.
        schedule: "cosine" warms up and falls to zero, step by step. The others are the original's,
            which change from epoch to epoch: "one_cycle" [Q2], "restarts", "constant".
        warmup: Share of the steps in which "cosine" rises.
        weight_decay: Of all parameters.
        clip_norm: Longest gradient, None for any.
        batch_size: Examples in a step.
        epochs: At most.
        patience: Epochs without gain after which training ends; 0 for never.
        select_by: "metric": the epoch of the best macro AUROC or mean absolute error on validation
            is kept, and patience counts by it; where no label has both values there, by the loss.
            "loss": by the loss, as in the original.
        least_gain: What patience takes for a gain.
        augment: Whether training adds noise and blanks as pretraining does (`methods.augment`).
        threshold: What positives are told from negatives by: the validation's best "youden" index,
            or the highest threshold that finds the share `sensitivity` of its positives.
        sensitivity: That share.
        dtype: What the encoder multiplies in while training. Predictions are made in float32.

    Raises:
        FinetuneError: A value is impossible.
    """

    mode: Mode = "finetune"
    head: HeadKind = "linear"
    dropout: float = 0.1
    loss: str | None = None
    balanced: bool = False
    sampling: Literal["shuffled", "in order", "balanced"] = "shuffled"
    optimizer: Literal["adamw", "adam"] = "adamw"
    learning_rate: float = None  # type: ignore[assignment]  # The mode's own, once made.
    encoder_learning_rate: float = 1e-4
    layer_decay: float = 0.8
    schedule: Literal["cosine", "one_cycle", "restarts", "constant"] = "cosine"
    warmup: float = 0.1
    weight_decay: float = 0.01
    clip_norm: float | None = 1.0
    batch_size: int = 64
    epochs: int = 30
    patience: int = 8
    select_by: Literal["metric", "loss"] = "metric"
    least_gain: float = 0.0
    augment: bool = False
    threshold: Literal["youden", "sensitivity"] = "youden"
    sensitivity: float = 0.9
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self):
        if cast(float | None, self.learning_rate) is None and self.mode in _RATES_OF_HEAD:
            object.__setattr__(self, "learning_rate", _RATES_OF_HEAD[self.mode])
        for name, (is_possible, expected) in _POSSIBLE.items():
            if not is_possible(getattr(self, name)):
                raise FinetuneError(f"{name} is {getattr(self, name)!r}; expected {expected}")

    def loss_of(self, kind: str) -> str:
        """Returns the loss of a task of this kind.

        Raises:
            FinetuneError: It cannot be trained by the one that is named.
        """
        choices = LOSSES[kind]
        loss = self.loss or choices[0]
        if loss not in choices:
            raise FinetuneError(
                f"loss is {loss!r}, but the task is {kind}; choose one of {', '.join(choices)}"
            )
        return loss


def _one_of(*choices: Any) -> tuple:
    return (lambda value: value in choices, " or ".join(map(repr, choices)))


_POSITIVE = (lambda value: 0 < value < math.inf, "a number above 0")
_SHARE = (lambda value: 0 <= value < 1, "a share from 0 to below 1")
_COUNT = (lambda value: isinstance(value, int) and value > 0, "a whole number above 0")

_POSSIBLE: Mapping[str, tuple] = {
    "mode": _one_of("finetune", "frozen", "scratch"),
    "head": _one_of("linear", "attention", "stages"),
    "dropout": _SHARE,
    "sampling": _one_of("shuffled", "in order", "balanced"),
    "optimizer": _one_of("adamw", "adam"),
    "learning_rate": _POSITIVE,
    "encoder_learning_rate": _POSITIVE,
    "layer_decay": (lambda value: 0 < value <= 1, "a number above 0, at most 1"),
    "schedule": _one_of("cosine", "one_cycle", "restarts", "constant"),
    "warmup": _SHARE,
    "weight_decay": (lambda value: 0 <= value < math.inf, "a number from 0 on"),
    "clip_norm": (lambda value: value is None or 0 < value < math.inf, "above 0, or None"),
    "batch_size": _COUNT,
    "epochs": _COUNT,
    "patience": (lambda value: isinstance(value, int) and value >= 0, "a whole number from 0 on"),
    "select_by": _one_of("metric", "loss"),
    "least_gain": (lambda value: 0 <= value < math.inf, "a number from 0 on"),
    "threshold": _one_of("youden", "sensitivity"),
    "sensitivity": (lambda value: 0 < value <= 1, "a share above 0, at most 1"),
    "dtype": _one_of("float32", "bfloat16"),
}

# What all of the original's tasks share (facts file, section 1). Cosine restarts every half of the
# epochs. The 16-bit training is left out, which no number is known to depend on.
_ORIGINAL = Options(
    dropout=0.0,
    optimizer="adam",
    learning_rate=1e-3,
    encoder_learning_rate=1e-3,
    layer_decay=1.0,
    schedule="restarts",
    weight_decay=1e-5,
    clip_norm=None,
    batch_size=64,
    epochs=100,
    patience=5,
    select_by="loss",
    least_gain=0.001,
)
# Where a dataset differs. The one epoch of MIMIC-IV [Q9] ends before its reduction of the rate on a
# plateau, of patience 5, can begin: it is constant.
_ORIGINALS: Mapping[str, Mapping[str, Any]] = {
    "ptbxl": {"optimizer": "adamw", "schedule": "one_cycle"},
    "mimic_lvef": {"optimizer": "adamw", "schedule": "constant", "epochs": 1, "least_gain": 1e-5},
    "icentia": {"sampling": "balanced"},
    "music": {"sampling": "balanced"},
    "aurorabp": {"sampling": "in order"},
}


def reference_options(task: str, mode: Mode = "finetune") -> Options:
    """Returns how the original trains for one of its tasks: 1e-3 everywhere, batches of 64.

    With its quirks: a one-cycle schedule built for steps that advances once an epoch [Q2], a single
    epoch for MIMIC-IV's ejection fraction [Q9], Aurora-BP always in the same order [Q13], and
    selection by the loss whatever the metric.

    Args:
        task: The task's name, "ptbxl/rhythm" for one; its dataset is what counts.
        mode: What is trained.
    """
    for dataset, differing in _ORIGINALS.items():
        if task.startswith(dataset):
            return dataclasses.replace(_ORIGINAL, mode=mode, **differing)
    return dataclasses.replace(_ORIGINAL, mode=mode)
