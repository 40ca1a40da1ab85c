"""The run's rows on disk."""

import json

import pytest

from clef_jax.train.metrics import MetricsLog, read_metrics


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
