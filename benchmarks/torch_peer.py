"""The same training step in PyTorch, as its users would tune it: the peer of `bench_vs_torch`."""

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional

from clef_jax.models import get_config
from tests.oracles.torch_resnext1d import TorchResNeXt1D

# Name -> (compile, TF32, autocast to bfloat16).
VARIANTS = {
    "eager": (False, False, False),
    "eager_tf32": (False, True, False),
    "compile": (True, False, False),
    "compile_tf32": (True, True, False),
    "autocast": (False, True, True),
    "compile_autocast": (True, True, True),
}


def clef_loss(z: torch.Tensor, risk: torch.Tensor, temperature: float = 0.07, floor: float = 0.2):
    """Returns the released loss; rows 2i and 2i + 1 of `z [2N, D]` are subject i's views."""
    rows = len(z)
    z = functional.normalize(z)
    similarity = z @ z.T
    q = (risk[:, None] - risk[None, :]) ** 2
    d = (1 - floor) * (q - q.min()) / (q.max() - q.min() + 1e-6) + floor
    d = d * (1 - torch.eye(len(risk), device=z.device))
    d = d.repeat_interleave(2, 0).repeat_interleave(2, 1)
    weights = d.softmax(1)

    index = torch.arange(rows, device=z.device)
    itself = torch.eye(rows, dtype=torch.bool, device=z.device)
    logits = similarity / temperature
    logits = logits - logits.masked_fill(itself, -torch.inf).amax(1, keepdim=True).detach()
    positive = logits[index, index ^ 1]
    subject = index // 2
    same = subject[:, None] == subject[None, :]
    negatives = (weights * logits.masked_fill(same, -torch.inf).exp()).sum(1)
    contrastive = ((positive.exp() + negatives + 1e-8).log() - positive).mean()

    low, high = similarity.min(), similarity.max()
    scaled = (similarity - low) / (high - low + 1e-6)
    return (contrastive + ((scaled - (1 - d)) ** 2).mean()) / 2


def make_step(size: str, batch_size: int, variant: str, device: str) -> Callable[[], float]:
    """Returns a function that runs one step on ready-made views, waits, and returns the loss.

    The views come augmented and z-scored, which the peer would do in its data loader.
    """
    compiles, tf32, autocast = VARIANTS[variant]
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    torch.manual_seed(0)
    model = TorchResNeXt1D(get_config(size)).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=5e-4, fused=True)
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(2 * batch_size, 1, 5000)).astype(np.float32)).to(device)
    risk = torch.from_numpy(rng.uniform(1, 30, batch_size).astype(np.float32)).to(device)

    def loss_of(x, risk):
        with torch.autocast(device, torch.bfloat16, enabled=autocast):
            z = model(x)
        return clef_loss(z.float(), risk)

    if compiles:
        loss_of = torch.compile(loss_of)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(x, risk)
        loss.backward()
        optimizer.step()
        if device != "cpu":
            torch.cuda.synchronize()
        return loss.item()

    return step
