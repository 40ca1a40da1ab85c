"""Rates that leave out pauses."""

import time

import pytest

from clef_jax.train.clock import Clock


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
    assert rates.keys() == {"perf/records_per_s", "perf/data_wait_frac", "perf/mfu"}
    assert rates["perf/mfu"] == pytest.approx(rates["perf/records_per_s"] / 1000)
    assert clock.rates() == {}
