"""The transforms of the Fourier form against correlations written out in float64 numpy."""

import numpy as np
import pytest

from clef_jax.ops.grouped_conv.fourier import transforms


@pytest.mark.parametrize(("taps", "outputs"), [(1, 2), (8, 16), (16, 24), (16, 32), (7, 9)])
def test_products_of_transforms_are_a_correlation(taps, outputs):
    rng = np.random.default_rng(taps)
    plan = transforms(taps, outputs)
    x, w = rng.normal(size=plan.samples.shape[1]), rng.normal(size=taps)
    y = plan.outputs @ ((plan.samples @ x) * (plan.taps @ w))
    np.testing.assert_allclose(y, np.correlate(x, w, "valid")[:outputs], rtol=0, atol=1e-13)


def test_fewer_products_than_a_direct_correlation():
    plan = transforms(16, 24)
    assert len(plan.samples) == 59
    assert 59 < 16 * 24 / 6


def test_windows_end_in_the_block_after_their_own():
    for taps, outputs in ((16, 4), (5, 5), (16, 24)):
        plan = transforms(taps, outputs)
        block, length = len(plan.outputs), plan.samples.shape[1]
        assert block >= outputs
        assert block + taps - 1 <= length <= 2 * block
