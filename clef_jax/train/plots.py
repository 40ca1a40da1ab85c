"""Pictures of a run, in its `plots/` folder."""

import os
import pathlib
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from clef_jax import stores
from clef_jax.files import replacing


def save_figure(figure: Figure, path: str | pathlib.Path) -> None:
    """Writes a figure as PNG, whole or not at all."""
    path = stores.at(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(os.fspath(path)) as temporary:
        figure.savefig(temporary, format="png", dpi=130)


def plot_losses(rows: Sequence[dict[str, float]], path: str | pathlib.Path) -> None:
    """Draws the loss, its parts and the embedding's geometry over the steps.

    Args:
        rows: Rows of `metrics.jsonl`.
        path: PNG file to write.
    """

    def draw(axes, name, **style):
        points = [(row["step"], row[name]) for row in rows if name in row]
        if points:
            label = name.removeprefix("train/").replace("/", " ").replace("_", " ")
            axes.plot(*zip(*points, strict=True), label=label, **style)

    figure = Figure(figsize=(10, 4), layout="constrained")
    losses, geometry = figure.subplots(1, 2)
    for name in ("train/loss", "train/contrastive", "train/dissimilarity"):
        draw(losses, name, linewidth=1)
    draw(losses, "validation/loss", marker="o", markersize=3, color="black")
    losses.set(xlabel="step", ylabel="loss", title="Loss")
    for name in ("train/alignment", "train/uniformity"):
        draw(geometry, name, linewidth=1)
    geometry.set(xlabel="step", title="Alignment and uniformity of the embeddings")
    for axes in (losses, geometry):
        if axes.lines:
            axes.legend(frameon=False)
        axes.grid(alpha=0.3)
    save_figure(figure, path)


def principal_components(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first two principal coordinates `[n, 2]` of `z [n, D]` and variance shares."""
    centred = z - z.mean(axis=0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    return u[:, :2] * s[:2], s[:2] ** 2 / max(np.sum(s**2), 1e-30)


def plot_embedding_map(
    z: np.ndarray, risk: np.ndarray, path: str | pathlib.Path, *, title: str
) -> None:
    """Draws embeddings `z [n, D]` on their first two principal components, coloured by risk `[n]`.

    Args:
        z: Embeddings of n >= 3 records.
        risk: Risk in percent; records of unknown risk are grey.
        path: PNG file to write.
        title: Heading.
    """
    coordinates, share = principal_components(z)
    known = np.isfinite(risk)
    figure = Figure(figsize=(6.5, 5), layout="constrained")
    axes = figure.subplots()
    (x, y), (known_x, known_y) = coordinates[~known].T, coordinates[known].T
    axes.scatter(x, y, s=8, color="lightgrey", label="risk unknown")
    dots = axes.scatter(known_x, known_y, s=10, c=risk[known], cmap="viridis")
    if known.any():
        figure.colorbar(dots, ax=axes, label="10-year risk, %")
    if not known.all():
        axes.legend(frameon=False)
    axes.set(
        xlabel=f"PC 1 ({share[0]:.0%} of variance)",
        ylabel=f"PC 2 ({share[1]:.0%})",
        title=title,
    )
    save_figure(figure, path)
