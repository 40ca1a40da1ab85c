"""Intervals that hold the truth as often as they say, and Holm's correction by its definition."""

import numpy as np
import pytest

from clef_jax.evaluate import metrics
from clef_jax.evaluate.statistics import resampling
from tests.predicted import cohort


def simulated(rng, patients):
    """Returns codes, labels, scores and errors of records that are alike within a patient."""
    codes = cohort(rng, patients)
    ill = (rng.random(patients) < 0.4).astype(float)[codes]
    own = rng.normal(size=patients)[codes]
    score = 1.2 * ill + own + rng.normal(size=len(codes))
    return codes, ill, score, 6 * (own + rng.normal(size=len(codes)))


def coverage(patients, simulations, resamples, *, by_record=False, seed=1):
    """Returns how often 95 % intervals of AUROC and MAE hold the figure of endless patients."""
    rng = np.random.default_rng(seed)
    _, ill, score, error = simulated(rng, 400_000)
    truth = metrics.auroc(np.ones((1, len(ill))), ill, score)[0], np.abs(error).mean()
    held = np.zeros(2)
    for number in range(simulations):
        codes, ill, score, error = simulated(rng, patients)
        if by_record:
            codes = np.arange(len(codes))
        rows = np.bincount(codes)
        draws = resampling.patient_draws(len(rows), resamples, number)[1:, codes].astype(float)
        counted = resampling.effective_patients(rows)
        drawn = metrics.auroc(draws, ill, score), metrics.mae(draws, np.zeros(len(error)), error)
        for which, figures in enumerate(drawn):
            low, high = resampling.interval(figures, counted)
            held[which] += low <= truth[which] <= high
    return held / simulations


def test_intervals_of_forty_patients_hold_the_truth():
    assert (np.abs(coverage(40, 200, 300) - 0.95) < 0.04).all()


def test_drawing_records_promises_too_much():
    assert (coverage(40, 100, 150, by_record=True) < 0.91).all()


@pytest.mark.slow
@pytest.mark.parametrize(("patients", "simulations"), [(40, 4000), (200, 2000), (1000, 1200)])
def test_intervals_cover_as_often_as_they_say(patients, simulations):
    by_patient = coverage(patients, simulations, 500)
    assert ((by_patient >= 0.93) & (by_patient <= 0.97)).all(), by_patient
    by_record = coverage(patients, simulations // 3, 500, by_record=True)
    assert (by_record < 0.92).all(), by_record


def test_interval_of_many_patients_is_that_of_the_quantiles():
    drawn = np.append(np.random.default_rng(0).normal(size=5000), [np.nan] * 10)
    low, high = resampling.interval(drawn, 1e6)
    assert (low, high) == pytest.approx(tuple(np.nanquantile(drawn, (0.025, 0.975))), abs=1e-3)
    narrow, wide = (np.ptp(resampling.interval(drawn, patients)) for patients in (1000, 10))
    assert wide > 1.1 * narrow
    assert np.isnan(resampling.interval(drawn, 1)).all()
    assert np.isnan(resampling.interval(np.full(4, np.nan), 100)).all()


def test_patients_with_unequal_shares_count_less():
    assert resampling.effective_patients(np.full(7, 3)) == pytest.approx(7)
    assert resampling.effective_patients(np.array([100, 1, 1])) == pytest.approx(1.04, abs=0.01)


def test_draws_are_as_many_as_patients():
    draws = resampling.patient_draws(30, 500, 0)
    assert (draws[0] == 1).all() and (draws.sum(axis=1) == 30).all()
    assert draws[1:].var() == pytest.approx(29 / 30, abs=0.05)


def test_draws_over_seeds_are_each_of_one_seed():
    figures = [np.arange(1000.0), -np.arange(1000.0)]
    drawn = resampling.over_seeds(figures, 0)
    assert drawn[0] == 0 and (np.abs(drawn[1:]) == np.arange(1, 1000)).all()
    assert 0.4 < np.mean(drawn[1:] > 0) < 0.6


def test_holm_rejects_what_its_steps_reject():
    rng = np.random.default_rng(2)
    for _ in range(50):
        p = np.round(rng.random(12) ** 3, 3)
        adjusted = resampling.holm(np.append(p, np.nan))
        assert np.isnan(adjusted[-1])
        for level in (0.01, 0.05, 0.3):
            rejected = set()
            for step, which in enumerate(np.argsort(p, kind="stable")):
                if p[which] * (12 - step) > level + 1e-12:
                    break
                rejected.add(which)
            assert rejected == set(np.flatnonzero(adjusted[:-1] <= level + 1e-12))
