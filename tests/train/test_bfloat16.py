"""The demo in bfloat16 beside the demo in float32."""

import numpy as np
import pytest

from clef_jax.ops.grouped_conv import conv
from clef_jax.train.metrics import read_metrics
from clef_jax.train.pretrain import pretrain
from configs import demo
from tests.shard_records import write_cohort_shards

STEPS, SEEDS = 200, 3


@pytest.fixture(scope="module")
def demo_shards(tmp_path_factory):
    """What `make demo` pretrains on, of a third of its patients."""
    return write_cohort_shards(
        tmp_path_factory.mktemp("demo"),
        patients=540,
        validation_fraction=0.25,
        records_per_shard=256,
    )


def losses_of(shards, workdir, **values):
    config = demo.get_config()
    config.steps = STEPS
    config.update(values)
    pretrain(config, str(shards), str(workdir))
    rows = read_metrics(workdir / "metrics.jsonl")
    return np.array([row["train/loss"] for row in rows if "train/loss" in row])


@pytest.fixture(scope="module")
def losses_of_seeds(demo_shards, tmp_path_factory):
    """Losses `[seed, row]` of the demo in float32."""
    folder = tmp_path_factory.mktemp("float32")
    return np.array([losses_of(demo_shards, folder / str(s), seed=s) for s in range(SEEDS)])


@pytest.mark.slow
@pytest.mark.parametrize("rounding", [(), ("cpu",)], ids=["as_on_tpus", "as_on_gpus"])
def test_bfloat16_learns_as_float32_does_within_the_spread_of_seeds(
    rounding, losses_of_seeds, demo_shards, tmp_path, monkeypatch
):
    monkeypatch.setattr(conv, "_ROUNDING", rounding)
    wide = losses_of_seeds
    narrow = losses_of(demo_shards, tmp_path / "bfloat16", seed=0, dtype="bfloat16")
    assert wide.shape == (SEEDS, STEPS // 10) and narrow.shape == (STEPS // 10,)
    # It learns at all, or nothing would be shown.
    assert (wide[:, -3:].mean(axis=1) < 0.9 * wide[:, :3].mean(axis=1)).all()
    # Same seed, so same weights, views and order: what is left is the rounding.
    difference = np.abs(narrow - wide[0]).mean()
    spread = np.ptp(wide, axis=0).mean()
    print(f"mean difference {difference:.2g}, spread of {SEEDS} seeds {spread:.2g}")
    assert difference < spread
    assert np.abs(narrow[-5:].mean() - wide[0, -5:].mean()) < np.ptp(wide[:, -5:].mean(axis=1))
