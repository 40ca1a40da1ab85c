"""Schedules and optimiser against PyTorch's own."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from clef_jax.train import optim


@pytest.mark.parametrize("multiplier", [2, 3])
def test_warm_restarts_equal_torchs_stepped_once_an_epoch(multiplier):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-4)
    reference = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(
        optimizer, T_0=10, T_mult=multiplier, eta_min=1e-6
    )
    expected = []
    for _ in range(200):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    schedule = optim.warm_restarts(1e-4, 7, multiplier=multiplier)
    for offset in (0, 6):
        found = [float(schedule(7 * epoch + offset)) for epoch in range(200)]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-11)


def test_warmup_cosine():
    schedule = optim.warmup_cosine(1e-3, 100, warmup_steps=10)
    rates = np.array([float(schedule(step)) for step in range(101)])
    np.testing.assert_allclose(rates[:11], np.linspace(0, 1e-3, 11), rtol=1e-5)
    assert (np.diff(rates[10:]) < 0).all()
    assert rates[100] == pytest.approx(1e-6)


@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_updates_equal_torchs_adamw(clip_norm):
    rng = np.random.default_rng(0)
    start = rng.normal(size=(3, 4)).astype(np.float32)
    gradients = rng.normal(size=(5, 3, 4)).astype(np.float32)
    parameter = torch.tensor(start.copy(), requires_grad=True)
    reference = torch.optim.AdamW([parameter], lr=1e-2, weight_decay=5e-4)
    optimizer = optim.make_optimizer(
        optax.constant_schedule(1e-2), weight_decay=5e-4, clip_norm=clip_norm
    )
    params = jnp.asarray(start)
    state = optimizer.init(params)
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient)
        if clip_norm is not None:
            torch.nn.utils.clip_grad_norm_([parameter], clip_norm)
        reference.step()
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(params, parameter.detach().numpy(), rtol=1e-5, atol=1e-6)
