"""Two hosts of which one gets its shards slowly: its steps wait, and metrics say which it is."""

import pytest

from clef_jax.train.metrics import read_metrics
from clef_jax.train.run_state import read_run_state
from tests.train.runs import finish, start_two_processes

SETTINGS = {
    "steps": 24,
    "log_steps": 8,
    "checkpoint_steps": 100,  # While one is written, batches are read ahead.
    "num_threads": 1,
    **{f"evaluators__{name}": -1 for name in ("validation", "probe", "map")},
}


@pytest.mark.slow
@pytest.mark.parametrize("slow", [0, 1])
def test_metrics_name_the_host_that_waits_for_its_data(shards_folder, tmp_path, slow):
    environments = [{"SECONDS_A_READ": "2"} if host == slow else {} for host in (0, 1)]
    finish(*start_two_processes(shards_folder, tmp_path, environments, **SETTINGS))
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [8, 16, 24]
    assert all(row["perf/slowest_host"] in (0, 1) for row in rows)
    # The last, as a few batches are there before the first step.
    longest, mean = (rows[-1][f"perf/data_wait_frac{of}"] for of in ("", "_mean"))
    other = 2 * mean - longest
    assert abs(other) < longest / 4 and longest <= 1
    state = read_run_state(tmp_path)
    assert state.rates["slowest_host"] == rows[-1]["perf/slowest_host"] == slow
    axes = {"data": 4}
    assert state.mesh == {"devices": 4, "device_kind": "cpu", "processes": 2, "axes": axes}
