"""What the tests of `clef-jax embed` share: a tiny encoder, recordings, and the command."""

import csv
import dataclasses
import pathlib

import numpy as np
import torch
import wfdb

from clef_jax.checkpoints.encoder import save_encoder
from clef_jax.cli import main as cli
from clef_jax.inference import Encoder, encoder_meta
from clef_jax.models import get_config
from tests.oracles.torch_resnext1d import TorchResNeXt1D, jax_params

# One block of each stage keeps compilations short.
TINY = dataclasses.replace(get_config("clef_small"), stage_widths=(32, 64), stage_blocks=(1, 1))


def tiny_encoder(seed=0):
    torch.manual_seed(seed)
    return Encoder(TINY, jax_params(TorchResNeXt1D(TINY)))


def save(encoder, folder):
    save_encoder(folder, encoder.params, encoder_meta(TINY, encoder.params, {"n": 1}))
    return str(folder)


def write_wfdb(folder, name, seconds, leads=("I", "II"), fs=250, seed=0):
    folder.mkdir(parents=True, exist_ok=True)
    t = np.arange(seconds * fs) / fs
    beats = np.exp(-0.5 * ((t % 0.8 - 0.4) / 0.012) ** 2) + 0.2 * np.sin(2 * np.pi * 0.3 * t + seed)
    beats += np.random.default_rng(seed).normal(0, 0.01, t.size)
    signal_mv = np.stack([beats * (1 + lead) for lead in range(len(leads))], axis=1)
    n = len(leads)
    wfdb.wrsamp(
        name,
        fs=fs,
        units=["mV"] * n,
        sig_name=list(leads),
        p_signal=signal_mv,
        fmt=["16"] * n,
        adc_gain=[1000.0] * n,
        baseline=[0] * n,
        write_dir=str(folder),
    )


def embed(*arguments, workers="0"):
    return cli.main(["embed", *map(str, arguments), "--workers", workers])


def errors(out):
    with open(pathlib.Path(out).with_suffix(".errors.csv"), newline="") as stream:
        return {row["record"]: row["error"] for row in csv.DictReader(stream)}
