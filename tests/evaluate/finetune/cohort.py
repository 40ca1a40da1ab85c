"""What the tests of fine-tuning share: a tiny encoder, and windows with a planted signal."""

import dataclasses

import numpy as np
import torch

from clef_jax.data.signals.spec import PreprocessingSpec
from clef_jax.evaluate.finetune import Inputs, Options
from clef_jax.inference import Encoder
from clef_jax.models import ResNeXt1DConfig
from tests.oracles.torch_resnext1d import TorchResNeXt1D, jax_params

TINY = ResNeXt1DConfig(
    "tiny", stem_width=8, ratio=1.0, stage_widths=(16,), stage_blocks=(1,), group_width=4
)
SAMPLES = 500
SPEC = PreprocessingSpec(samples=SAMPLES)
# Few steps at a high rate.
QUICK = Options(
    learning_rate=3e-3, encoder_learning_rate=3e-3, batch_size=32, epochs=8, dropout=0.0
)

# Long enough for probabilities and values to be right, not their order alone.
THOROUGH = dataclasses.replace(
    QUICK,
    learning_rate=1e-2,
    encoder_learning_rate=1e-2,
    layer_decay=1.0,
    epochs=40,
    patience=0,
    select_by="loss",
)
# Five steps an epoch of 80 rows, with draws of their own; the second leaves time to be killed.
SHORT = dataclasses.replace(QUICK, batch_size=16, epochs=3, patience=0, dropout=0.2)
LONG = dataclasses.replace(SHORT, epochs=60)


def tiny_torch(seed=0):
    torch.manual_seed(seed)
    return TorchResNeXt1D(TINY)


def tiny_encoder(seed=0):
    return Encoder(TINY, jax_params(tiny_torch(seed)), preprocessing=SPEC, meta={"versions": {}})


def beats(rows, seed=0):
    """Returns windows `[rows, SAMPLES]` of beats, and how wide each one's are, in two groups."""
    rng = np.random.default_rng(seed)
    wide = rng.integers(0, 2, rows)
    t = np.arange(SAMPLES)
    phase = (t[None] + rng.integers(0, 100, (rows, 1))) % 100 - 50
    x = np.exp(-0.5 * (phase / np.where(wide, 9.0, 4.0)[:, None]) ** 2)
    x = x + rng.normal(0, 0.2, x.shape)
    z = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
    return z.astype(np.float32), wide.astype(float)


def inputs_of(x, labels, kind="binary", classes=("wide",), **fields):
    """Returns inputs of which the first half is trained on, and a quarter each is held out."""
    rows = len(x)
    place = np.arange(rows) / rows
    split = np.select([place < 0.5, place < 0.75], ["train", "validation"], "test")
    names = np.array([f"e{n}" for n in range(rows)])
    labels = np.asarray(labels, float).reshape(rows, -1)
    return Inputs(x, labels, split, names, names, kind, classes, **fields)
