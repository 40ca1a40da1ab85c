"""The run's records on disk, and its clock."""

import json
import time

import numpy as np
import pytest
from matplotlib import image

from clef_jax.train.metrics import Clock, MetricsLog, read_metrics
from clef_jax.train.plots import plot_embedding_map, plot_losses, principal_components


def test_rows_after_the_restored_step_and_a_torn_last_line_are_dropped(tmp_path):
    log = MetricsLog(tmp_path, step=0, tensorboard=False)
    for step in (1, 2, 3):
        log.write(step, {"train/loss": step / 2, "train/uniformity": float("-inf")})
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 4, "train/lo')
    log = MetricsLog(tmp_path, step=2, tensorboard=False)
    log.write(3, {"train/loss": 9.0})
    log.close()
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [(row["step"], row["train/loss"]) for row in rows] == [(1, 0.5), (2, 1.0), (3, 9.0)]
    assert all(set(row) == {"step", "train/loss"} for row in rows)
    json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])


def test_tensorboard_gets_the_same_values(tmp_path):
    pytest.importorskip("tensorboardX")
    log = MetricsLog(tmp_path, step=0, tensorboard=True)
    log.write(1, {"train/loss": 0.5})
    log.close()
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"train/loss" in events.read_bytes()


def test_the_clock_leaves_out_pauses_and_counts_waiting():
    def slow_batches():
        while True:
            time.sleep(0.02)
            yield None

    clock, batches = Clock(batch_size=10, peak_records_per_s=1000.0), slow_batches()
    with clock.paused():
        time.sleep(0.3)
    for _ in range(5):
        clock.next_batch(batches)
        time.sleep(0.02)
    rates = clock.rates()
    assert 100 < rates["perf/records_per_s"] <= 250
    assert 0.3 < rates["perf/data_wait_frac"] < 0.7
    assert rates["perf/mfu"] == pytest.approx(rates["perf/records_per_s"] / 1000)
    assert clock.rates() == {}


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
