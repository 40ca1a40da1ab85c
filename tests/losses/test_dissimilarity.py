"""The dissimilarity of subjects by risk against its formula, pair by pair."""

import numpy as np
import pytest

from clef_jax.losses.dissimilarity import make_dissimilarity
from tests.losses.test_losses import RISKS
from tests.oracles import losses as oracle


@pytest.mark.parametrize("unknown_risk", ["zero", "mean"])
@pytest.mark.parametrize("kind", RISKS)
@pytest.mark.parametrize("n", [pytest.param(2, marks=pytest.mark.slow), 9])
def test_dissimilarity_of_pairs_and_as_a_product(n, kind, unknown_risk, x64):
    risk = RISKS[kind](n, np.random.default_rng(n))
    expected = oracle.dissimilarity(risk, 0.3, unknown_risk)
    found = make_dissimilarity(risk, None, 0.3, unknown_risk)
    rows = np.arange(n)[::-1]
    same = rows[:, None] == np.arange(n)[None]
    np.testing.assert_allclose(found.of(rows, same), expected[rows], rtol=1e-9)
    left, right = found.factors()
    others = ~np.eye(n, dtype=bool)
    np.testing.assert_allclose((left @ right.T)[others], expected[others], rtol=1e-9)


def test_risks_that_are_nearly_equal_keep_their_differences_in_float32():
    risk = (20 + 1e-2 * np.random.default_rng(0).normal(size=50)).astype(np.float32)
    expected = oracle.dissimilarity(risk.astype(np.float64), 0.2, "zero")
    left, right = make_dissimilarity(risk, None, 0.2, "zero").factors()
    others = ~np.eye(50, dtype=bool)
    np.testing.assert_allclose((left @ right.T)[others], expected[others], rtol=0, atol=3e-3)
