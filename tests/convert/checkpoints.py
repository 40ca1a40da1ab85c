"""Checkpoint files of the original's structure, written with torch."""

import jax
import numpy as np
import torch

from clef_jax.models import get_config
from tests.oracles.torch_resnext1d import TorchResNeXt1D


def torch_model(name, in_channels=1, seed=0):
    torch.manual_seed(seed)
    return TorchResNeXt1D(get_config(name, in_channels=in_channels)).eval()


def lightning_content(model, *, extra=None):
    """What Lightning stores of a run with AdamW, optimiser state and all."""
    used = [p for name, p in model.named_parameters() if "bn" not in name]
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4)
    for parameter in used:
        optimiser.state[parameter] = {
            "step": torch.tensor(1.0),
            "exp_avg": torch.full_like(parameter, 0.1),
            "exp_avg_sq": torch.full_like(parameter, 0.2),
        }
    state = {f"backbone.{name}": value for name, value in model.state_dict().items()}
    return {
        "epoch": 3,
        "global_step": 100,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": state | (extra or {}),
        "loops": {"fit_loop": {"epoch_progress": {"total": {"ready": 4, "completed": 3}}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'train_loss'}": {"best": torch.tensor(1.5)}},
        "optimizer_states": [optimiser.state_dict()],
        "lr_schedulers": [{"T_0": 10, "T_mult": 2, "_last_lr": [1e-4]}],
        "hyper_parameters": {"lr": 1e-4},
    }


def write_lightning(path, model, **kwargs):
    torch.save(lightning_content(model, **kwargs), path)
    return path


def same_trees(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)
