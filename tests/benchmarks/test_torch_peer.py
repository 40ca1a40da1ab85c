"""The peer of the benchmarks computes the loss it is compared on."""

import numpy as np
import pytest
import torch

from benchmarks import torch_peer
from tests.oracles import losses


@pytest.mark.parametrize("temperature, floor", [(0.07, 0.2), (0.5, 0.6)])
@pytest.mark.parametrize("kind", ["different risks", "two alike", "all equal"])
def test_the_loss_is_the_formula(kind, temperature, floor):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(14, 5))
    risk = {
        "different risks": rng.uniform(1, 30, 7),
        "two alike": np.array([4.0, 4.0, 1.0, 9.0, 25.0, 16.0, 2.0]),
        "all equal": np.full(7, 12.5),
    }[kind]
    expected = losses.clef(z, risk, temperature=temperature, floor=floor)
    actual = torch_peer.clef_loss(torch.tensor(z), torch.tensor(risk), temperature, floor)
    assert actual.item() == pytest.approx(expected, rel=1e-12)


def test_the_gradient_is_the_formula_s():
    rng = np.random.default_rng(1)
    z, risk = rng.normal(size=(8, 3)), rng.uniform(1, 30, 4)
    leaf = torch.tensor(z, requires_grad=True)
    torch_peer.clef_loss(leaf, torch.tensor(risk)).backward()
    expected = losses.finite_differences(lambda z: losses.clef(z, risk), z)
    np.testing.assert_allclose(leaf.grad.numpy(), expected, rtol=1e-5, atol=1e-7)
