"""Signals, and the end by validation losses."""

import math
import os
import signal

import pytest

from clef_jax.train.stopping import Progress, StopSignal


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_is_a_request_and_the_second_acts(number):
    acted = []
    before = signal.signal(number, lambda *_: acted.append(1))
    try:
        with StopSignal() as stop:
            assert not stop.is_set()
            os.kill(os.getpid(), number)
            assert stop.is_set() and stop.requested(5, lambda step: False) and acted == []
            os.kill(os.getpid(), number)
            assert acted == [1]
        os.kill(os.getpid(), number)
        assert acted == [1, 1]
    finally:
        signal.signal(number, before)


def test_progress_counts_since_the_best_and_takes_no_loss_that_is_not_finite():
    progress = Progress()
    for step, loss in enumerate((math.nan, 3.0, 2.0, 2.0, math.inf, -math.inf)):
        progress = progress.after(step, loss)
    assert progress == Progress(best_loss=2.0, best_step=2, evaluations_since_best=3)
    assert progress.is_exhausted(3) and progress.is_exhausted(2)
    assert not progress.is_exhausted(4) and not progress.is_exhausted(0)


def test_a_gain_too_small_counts_as_none_but_is_the_best():
    """Patience waits from the last gain; the lowest is the best whatever it gained."""
    progress, waited = Progress(), []
    for step, loss in enumerate((1.0, 0.6, 0.58, 0.56, 0.52, 0.45)):
        progress = progress.after(step, loss, least_gain=0.05)
        waited.append((progress.best_step, progress.evaluations_since_best))
    assert waited == [(0, 0), (1, 0), (2, 1), (3, 2), (4, 0), (5, 0)]
    assert progress == Progress(best_loss=0.45, best_step=5)
