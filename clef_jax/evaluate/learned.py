"""A pretrained encoder beside an untrained one, on the held-out patients of a shard set."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from clef_jax import parallel
from clef_jax.data.pipeline import BatchPlans, make_batches
from clef_jax.data.shards import ShardSet
from clef_jax.evaluate.probe import retrieval_at_1, ridge_r2
from clef_jax.models import create_model
from clef_jax.train.augment import augment_batch
from clef_jax.train.embed import make_embed_records, slots_of_lead
from clef_jax.train.plots import save_figure

FIGURES = {
    "retrieval": "second view found among all patients",
    "risk_r2": "ridge probe: log risk, R²",
    "age_r2": "ridge probe: age, R²",
}


def what_was_learned(
    model_name: str, params: Any, shards: ShardSet, noise: np.ndarray, *, lead: str, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Returns `{"pretrained": figures, "untrained": figures}`; figures are keyed as `FIGURES`.

    Retrieval compares the two augmented views of one record of every validation patient. The probes
    learn from the training patients' records and are scored on the validation patients'.

    Args:
        model_name: One of `list_models()`.
        params: The pretrained parameters.
        shards: The shard set the run was trained on.
        noise: The noise bank `[4, 15, M]`.
        lead: Standard lead that the probes see.
        seed: Seed of the views and of the untrained encoder.

    Raises:
        PlanError: There is no validation patient.
    """
    model = create_model(model_name)
    untrained = model.init(jax.random.key(seed), jnp.zeros((1, 64, 1)))["params"]
    embed_records = make_embed_records(model, parallel.data_mesh(jax.local_devices()))
    records = np.arange(len(shards))
    slots = slots_of_lead(shards, records, lead)
    records, slots = records[slots >= 0], slots[slots >= 0]
    held_out = shards.is_validation[records]
    with np.errstate(divide="ignore"):
        targets = {"risk_r2": np.log(shards.risk[records]), "age_r2": shards.age[records]}
    embed_views = _make_embed_views(model, shards, noise, seed)

    def figures(params: Any) -> dict[str, float]:
        z = embed_records(params, shards, records, slots)
        found = {"retrieval": retrieval_at_1(*embed_views(params))}
        for name, y in targets.items():
            found[name] = ridge_r2(z[~held_out], y[~held_out], z[held_out], y[held_out])
        return found

    return {"pretrained": figures(params), "untrained": figures(untrained)}


def _make_embed_views(model, shards: ShardSet, noise: np.ndarray, seed: int):
    """Returns the function params -> two augmented views' embeddings of the validation patients."""
    patients = max(np.unique(shards.patient_code[shards.is_validation]).size, 1)
    plans = BatchPlans(
        shards, batch_size=patients, seed=seed, records_per_patient="first", validation=True
    )
    batches = iter(make_batches(shards, plans, num_threads=1))
    batch = next(batches)
    batches.close()

    @jax.jit
    def encode(params, rows, part, noise):
        x = augment_batch(seed, jnp.int32(0), rows, part, noise)
        return model.apply({"params": params}, x)

    def embed_views(params) -> tuple[np.ndarray, np.ndarray]:
        found = []
        for rows in np.array_split(np.arange(patients), -(-patients // 64)):
            part = {name: batch[name][rows] for name in ("ecg", "scale_mv", "lead")}
            found.append(np.asarray(encode(params, rows, part, noise)))
        z = np.concatenate(found)
        return z[0::2], z[1::2]

    return embed_views


def plot_learned(figures: dict[str, dict[str, float]], path: str | pathlib.Path) -> None:
    """Draws the figures of `what_was_learned` as bars, pretrained beside untrained."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    for axes, (key, label) in zip(figure.subplots(1, len(FIGURES)), FIGURES.items(), strict=True):
        values = [figures[encoder][key] for encoder in ("untrained", "pretrained")]
        bars = axes.bar(["untrained", "pretrained"], values, color=["lightgrey", "tab:blue"])
        axes.bar_label(bars, fmt="%.2f")
        axes.axhline(0, color="black", linewidth=0.5)
        axes.set_title(label, fontsize=9)
        axes.margins(y=0.15)
    save_figure(figure, path)
