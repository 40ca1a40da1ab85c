"""What training is told by the validation examples: loss, metric, and which epoch was the best."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from absl import logging

from clef_jax import hosts
from clef_jax.evaluate.finetune.inputs import Inputs
from clef_jax.evaluate.finetune.method import Loss
from clef_jax.evaluate.finetune.options import Options
from clef_jax.evaluate.finetune.targets import Targets
from clef_jax.evaluate.metrics import auroc
from clef_jax.inference.forward import Forward
from clef_jax.models import EncoderWithHead
from clef_jax.train.evaluators.evaluator import Evaluator
from clef_jax.train.state import TrainState

# The lower the better.
SELECTION = "validation/selection"

_ROWS_AT_ONCE = 256


def make_validation(
    model: EncoderWithHead,
    loss: Loss,
    targets: Targets,
    inputs: Inputs,
    options: Options,
    period: int,
) -> Evaluator:
    """Returns what evaluates a state on the validation examples.

    Its values are `validation/loss`, the metric, `validation/auroc` or `validation/mae` (in
    standard deviations of the training targets), and `validation/selection`: by what the best
    epoch is known, which is the lower the better, one minus the AUROC for one. Where no label has
    both values there is no AUROC, and the loss tells.
    """
    rows = inputs.rows("validation")
    target = targets.standardised(inputs.labels[rows])
    labels = targets.by_class(inputs.labels[rows])
    by_loss = options.select_by == "loss"
    if not by_loss and targets.kind != "regression" and not _judged(labels):
        logging.warning(
            "no label has both positives and negatives among the validation examples, so that no "
            "AUROC tells which epoch is the best: it is the one of the least loss"
        )
        by_loss = True

    def evaluate(state: TrainState, stopped: Callable[[], bool]) -> dict[str, float] | None:
        forward = forward_of(model, hosts.whole(state.evaluated))
        outputs = outputs_of(forward, inputs.x, rows, stopped)
        if outputs is None:
            return None
        value = float(loss(jnp.asarray(outputs), jnp.asarray(target), None))
        if targets.kind == "regression":
            error = np.abs(outputs[:, : target.shape[1]] - target)
            metric = selection = float(error[np.isfinite(target)].mean())
        else:
            metric = macro_auroc(targets.scores(outputs), labels)
            selection = 1 - metric
        name = "mae" if targets.kind == "regression" else "auroc"
        return {
            "validation/loss": value,
            f"validation/{name}": metric,
            SELECTION: value if by_loss else selection,
        }

    return Evaluator(evaluate, period)


def macro_auroc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Returns the mean area under the ROC curve over the labels that have both values, else NaN.

    Args:
        scores: `[n, L]`.
        labels: `[n, L]`, 0, 1 or NaN where not known.
    """
    areas = []
    for column in _judged(labels):
        known = np.isfinite(labels[:, column])
        of_label, score = labels[known, column], scores[known, column]
        areas.append(float(auroc(np.ones((1, len(score))), of_label, score)[0]))
    return float(np.mean(areas)) if areas else float("nan")


def _judged(labels: np.ndarray) -> list[int]:
    return [
        number
        for number, column in enumerate(labels.T)
        if (column == 1).any() and (column == 0).any()
    ]


def forward_of(model: EncoderWithHead, params: dict) -> Forward:
    """Returns encoder and head as everything applies them that loads them: in float32."""
    return Forward(model.clone(dtype=jnp.float32), params)


def outputs_of(
    forward: Forward,
    x: np.ndarray,
    rows: np.ndarray,
    stopped: Callable[[], bool] = lambda: False,
) -> np.ndarray | None:
    """Returns the outputs, float32 `[n, outputs]`, of rows `[n]` of `x [N, T]`.

    It reads some rows at a time, and returns None if `stopped` says so before the last.
    """

    def inputs():
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            some = rows[start : start + _ROWS_AT_ONCE]
            yield np.asarray(x[some], np.float32)[..., None]

    found = []
    for outputs in forward.stream(inputs()):
        if stopped():
            return None
        found.append(outputs.embedding)
    return np.concatenate(found) if found else None
