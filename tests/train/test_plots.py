"""Pictures of a run."""

import numpy as np
from matplotlib import image

from clef_jax.train.plots import plot_embedding_map, plot_losses, principal_components


def test_principal_components_are_those_of_the_covariance():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(50, 4)) * [5, 1, 0.5, 3] + 2
    coordinates, share = principal_components(z)
    values, vectors = np.linalg.eigh(np.cov(z.T))
    expected = (z - z.mean(0)) @ vectors[:, ::-1][:, :2]
    np.testing.assert_allclose(np.abs(coordinates), np.abs(expected), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(share, values[::-1][:2] / values.sum())


def test_plots_are_written_even_where_little_is_known(tmp_path):
    plot_losses(
        [{"step": 1, "train/loss": 2.0}, {"step": 2, "validation/loss": 1.0}], tmp_path / "a"
    )
    z = np.random.default_rng(0).normal(size=(5, 3))
    plot_embedding_map(z, np.full(5, np.nan), tmp_path / "b", title="none known")
    for name in ("a", "b"):
        assert image.imread(tmp_path / name, format="png").std() > 0
