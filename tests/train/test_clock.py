"""Rates that leave out pauses."""

import pytest

from clef_jax.train.clock import Clock


def test_the_clock_leaves_out_pauses_and_counts_waiting(monkeypatch):
    now_s = 100.0
    monkeypatch.setattr("time.perf_counter", lambda: now_s)

    def spend(seconds):
        nonlocal now_s
        now_s += seconds

    def slow_batches():
        while True:
            spend(0.25)
            yield None

    clock, batches = Clock(batch_size=10, peak_records_per_s=1000.0), slow_batches()
    spend(7.0)
    with clock.paused():
        spend(3.0)
    for _ in range(5):
        clock.next_batch(batches)
        spend(0.75)
    assert clock.rates() == pytest.approx(
        {"perf/records_per_s": 10.0, "perf/data_wait_frac": 0.25, "perf/mfu": 0.01}
    )
    spend(5.0)
    assert clock.rates() == {}
    clock.next_batch(batches)
    assert clock.rates()["perf/data_wait_frac"] == pytest.approx(1.0)
