"""Simulated ECGs: sound recordings from which age and risk can be learned, but not read off."""

import dataclasses

import numpy as np
import pytest
import scipy.signal
import scipy.stats

from clef_jax.data.demo import hearts
from clef_jax.data.demo.cohort import draw_risk_factors
from clef_jax.data.demo.hearts import draw_heart, simulate_ecg
from clef_jax.data.recordings import read_recording
from clef_jax.data.signals import preprocessing, quality
from clef_jax.data.signals.leads import STANDARD_LEADS
from clef_jax.evaluate.learned.plain import PLAIN_FEATURES, plain_features
from clef_jax.risk import score2, score2_op

PERSON = {
    "age": 55,
    "male": 1,
    "smoker": 0,
    "diabetes": 0,
    "sbp_mmhg": 130,
    "total_chol_mmol_l": 5.3,
    "hdl_mmol_l": 1.35,
}


def _heart(seed=0, **changes):
    return draw_heart(PERSON | changes, np.random.default_rng(seed))


def _r_peaks(signal_mv):
    """Samples of the R peaks: maxima of the slope's energy over all leads."""
    slope = np.square(np.gradient(preprocessing.bandpass(signal_mv, 500), axis=-1)).sum(axis=0)
    energy = np.convolve(slope, np.ones(50) / 50, "same")
    peaks, _ = scipy.signal.find_peaks(
        energy, height=0.4 * np.quantile(energy, 0.995), distance=150
    )
    return peaks


def _median_beat(signal_mv, peaks):
    inside = peaks[(peaks > 150) & (peaks < 4750)]
    return np.median([signal_mv[:, p - 150 : p + 250] for p in inside], axis=0)


def test_leads_obey_einthoven_and_goldberger():
    ecg = simulate_ecg(_heart(), np.random.default_rng(1))
    assert ecg.shape == (12, 5000)
    lead = dict(zip(STANDARD_LEADS, ecg, strict=True))
    assert np.allclose(lead["I"] + lead["III"], lead["II"], atol=1e-12)
    assert np.allclose(lead["aVR"] + lead["aVL"] + lead["aVF"], 0, atol=1e-12)
    assert np.allclose(lead["aVL"], (lead["I"] - lead["III"]) / 2, atol=1e-12)


def test_recording_is_a_function_of_heart_and_seed():
    first, again, other = (simulate_ecg(_heart(), np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.allclose(first, other, atol=0.1)


@pytest.mark.parametrize("rate", [50.0, 70.0, 100.0])
def test_heart_beats_at_its_rate(rate):
    heart = dataclasses.replace(_heart(), rate=rate)
    measured = []
    for seed in range(8):
        peaks = _r_peaks(simulate_ecg(heart, np.random.default_rng(seed)))
        measured.append(60 * 500 / np.diff(peaks).mean())
    assert np.mean(measured) == pytest.approx(rate, rel=0.05)


def test_waves_look_like_an_ecg():
    heart = dataclasses.replace(_heart(), rate=65.0)
    ecg = simulate_ecg(heart, np.random.default_rng(3))
    beat = dict(zip(STANDARD_LEADS, _median_beat(ecg, _r_peaks(ecg)), strict=True))
    level = {name: x - np.median(x[300:400]) for name, x in beat.items()}
    qrs, p, t = slice(120, 180), slice(40, 115), slice(220, 330)
    assert 0.4 < level["II"][qrs].max() < 2.5
    assert 0.03 < level["II"][p].max() < 0.3
    assert 0.1 < level["II"][t].max() < 1.0
    # R grows and S shrinks from V1 to V5; aVR is upside down.
    assert level["V1"][qrs].max() < 0.5 < level["V5"][qrs].max()
    assert level["V1"][qrs].min() < -0.5 < level["V5"][qrs].min()
    assert level["aVR"][qrs].min() < -0.4
    assert level["aVR"][t].min() < -0.05


def _mean_over_hearts(measure, **changes):
    """Paired seeds: the same random variation with and without the risk factor."""
    return np.mean([measure(_heart(seed, **changes)) for seed in range(150)])


V1, V5, LEAD_I, LEAD_II = 0, 4, 6, 7
Q, R, END, ST, T = 2, 3, 5, 7, 8


@pytest.mark.parametrize(
    ("changes", "measure", "sign"),
    [
        ({"sbp_mmhg": 180}, lambda h: h.electrode_waves[V5, R], 1),
        ({"sbp_mmhg": 180}, lambda h: h.electrode_waves[LEAD_I, R], 1),
        ({"age": 80}, lambda h: h.pr, 1),
        ({"age": 80}, lambda h: h.qtc, 1),
        ({"age": 80}, lambda h: h.breathing_arrhythmia, -1),
        ({"male": 0}, lambda h: h.qtc, 1),
        ({"smoker": 1}, lambda h: h.rate, 1),
        ({"diabetes": 1}, lambda h: h.electrode_waves[V5, ST], -1),
        ({"total_chol_mmol_l": 8}, lambda h: h.electrode_waves[V5, ST], -1),
        ({"hdl_mmol_l": 0.7}, lambda h: h.electrode_waves[V5, T], -1),
        # Blocks, fibrillation, ectopy and scars grow frequent.
        ({"age": 85}, lambda h: h.qrs, 1),
        ({"age": 85}, lambda h: h.electrode_waves[V1, END], 1),
        ({"age": 85}, lambda h: h.fibrillates, 1),
        ({"age": 80}, lambda h: np.log(h.atrial_ectopy), 1),
        ({"sbp_mmhg": 180}, lambda h: np.log(h.ventricular_ectopy), 1),
        ({"smoker": 1, "diabetes": 1}, lambda h: h.electrode_waves[LEAD_II, Q], -1),
    ],
)
def test_risk_factors_act_in_their_direction(changes, measure, sign):
    assert sign * (_mean_over_hearts(measure, **changes) - _mean_over_hearts(measure)) > 0


def test_recordings_of_a_patient_resemble_each_other():
    beats = []
    for patient in range(12):
        heart = _heart(patient)
        for study in range(2):
            ecg = simulate_ecg(heart, np.random.default_rng([patient, study]))
            qrs = _median_beat(ecg, _r_peaks(ecg))[:, 110:190]
            beats.append((qrs - qrs.mean(axis=1, keepdims=True)).ravel())
    beats = np.array(beats).reshape(12, 2, -1)
    distance = np.linalg.norm(beats[:, None, 0] - beats[None, :, 1], axis=-1)
    own = np.diag(distance)
    others = distance[~np.eye(12, dtype=bool)]
    assert np.median(own) < 0.6 * np.median(others)
    assert np.mean(distance.argmin(axis=1) == np.arange(12)) > 0.6


def test_premature_beats_come_early_and_the_sinus_node_keeps_its_time():
    heart = dataclasses.replace(
        _heart(), rate=60.0, ventricular_ectopy=8.0, atrial_ectopy=0.0, fibrillates=False
    )
    early, pairs = [], []
    for seed in range(20):
        times, rr, _, ventricular = hearts._beats(heart, np.random.default_rng(seed))
        np.testing.assert_allclose(np.diff(times), rr[1:])
        for beat in np.flatnonzero(ventricular[1:-1]) + 1:
            early.append(rr[beat] / np.median(rr))
            pairs.append((rr[beat] + rr[beat + 1]) / np.median(rr))
    assert len(early) > 10
    assert max(early) < 0.85
    assert np.median(pairs) == pytest.approx(2, abs=0.1)


def test_fibrillating_atria_give_no_rhythm():
    def irregularity(fibrillates):
        heart = dataclasses.replace(
            _heart(), fibrillates=fibrillates, atrial_ectopy=0.0, ventricular_ectopy=0.0
        )
        rr = [np.diff(_r_peaks(simulate_ecg(heart, np.random.default_rng(s)))) for s in range(6)]
        return np.median([intervals.std() / intervals.mean() for intervals in rr])

    assert irregularity(True) > 0.12 > 0.06 > irregularity(False)


def test_lead_ii_varies_as_in_real_recordings(real_data):
    """Between patients about as much, and from beat to beat: clean ones would teach little."""
    files = sorted((real_data / "ptb-xl" / "records500").rglob("*.hea"))[:120]
    real = [read_recording(path.with_suffix("")) for path in files]
    real = [recording.signal_mv[list(recording.leads).index("II")] for recording in real]
    rng = np.random.default_rng(0)
    age = rng.normal(61, 12, 120).clip(40, 89)
    people = draw_risk_factors(age, (np.arange(120) % 2).astype(float), rng)
    simulated = []
    for i in range(120):
        person = {"age": age[i], "male": float(i % 2)} | {k: v[i] for k, v in people.items()}
        simulated.append(simulate_ecg(draw_heart(person, rng), rng)[1])
    of_real, of_simulated = (
        np.array([plain_features(preprocessing.preprocess(x, 500), 500) for x in group])
        for group in (real, simulated)
    )
    for name in ("heart rate, 1/min", "log RMSSD, s", "S over R", "T over R", "P to R, s"):
        column = PLAIN_FEATURES.index(name)
        spread = [
            scipy.stats.iqr(group[:, column], nan_policy="omit")
            for group in (of_simulated, of_real)
        ]
        assert 0.5 < spread[0] / spread[1] < 2, name
    noise = PLAIN_FEATURES.index("log beat-to-beat change over R")
    middle = np.nanmedian(of_simulated[:, noise]) - np.nanmedian(of_real[:, noise])
    assert abs(middle) < 0.5


def test_visits_of_a_patient_differ():
    rates, waves = [], []
    for patient in range(30):
        heart = dataclasses.replace(
            _heart(patient), fibrillates=False, atrial_ectopy=0.0, ventricular_ectopy=0.0
        )
        for visit in range(2):
            ecg = simulate_ecg(heart, np.random.default_rng([patient, visit]))
            found = plain_features(preprocessing.preprocess(ecg[1], 500), 500)
            rates.append(found[0])
            waves.append(found[PLAIN_FEATURES.index("T over R")])
    for values in (np.log(rates), waves):
        first, second = np.array(values).reshape(-1, 2).T
        within = np.median(np.abs(first - second))
        between = np.median(np.abs(first[:, None] - second[None, :]))
        assert 0.1 < within / between < 0.9


@pytest.fixture(scope="module")
def population():
    """Age, log risk and simple measurements in I, V1 and V5 of 500 patients."""
    rng = np.random.default_rng(5)
    age = rng.normal(61, 12, 500).clip(40, 89)
    male = (rng.random(500) < 0.5).astype(float)
    factors = draw_risk_factors(age, male, rng)
    conventional = (
        age,
        male,
        *(factors[name] for name in ("smoker", "sbp_mmhg", "total_chol_mmol_l", "hdl_mmol_l")),
    )
    risk = np.where(
        age < 70,
        score2(*conventional, region="moderate"),
        score2_op(*conventional, region="moderate"),
    )
    measured = []
    for i in range(500):
        patient = {"age": age[i], "male": male[i]} | {k: v[i] for k, v in factors.items()}
        own = np.random.default_rng([5, i])
        ecg = simulate_ecg(draw_heart(patient, own), own)
        assert quality.lead_faults(ecg, 500) == [None] * 12
        clean = preprocessing.preprocess(ecg[[0, 6, 10]], 500)
        assert np.isfinite(clean).all()
        peaks = _r_peaks(clean)
        rr = np.diff(peaks) / 500
        beat = _median_beat(clean, peaks)
        r, s, p, t = (
            beat[:, 120:180].max(axis=1),
            beat[:, 120:180].min(axis=1),
            beat[:, 60:110].max(axis=1),
            beat[:, 220:330].max(axis=1),
        )
        st = beat[:, 190:205].mean(axis=1)
        measured.append([rr.mean(), np.log(rr.std() + 1e-3), *r, *s, *p, *t, *st])
    return age, np.log(risk), np.array(measured)


def _held_out_r2(x, y):
    """R2 of ridge regression fitted on two thirds and judged on the rest."""
    x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-9)
    fit, rest = slice(0, 2 * len(x) // 3), slice(2 * len(x) // 3, None)
    mean = y[fit].mean()
    gram = x[fit].T @ x[fit] + 30 * np.eye(x.shape[1])
    error = y[rest] - mean - x[rest] @ np.linalg.solve(gram, x[fit].T @ (y[fit] - mean))
    return 1 - np.mean(error**2) / y[rest].var()


def test_age_and_risk_can_be_learned_but_not_read_off(population):
    age, log_risk, measured = population
    assert 0.4 < _held_out_r2(measured, age) < 0.8
    assert 0.25 < _held_out_r2(measured, log_risk) < 0.7
    # No single measurement gives them away.
    single = [abs(np.corrcoef(column, age)[0, 1]) for column in measured.T]
    assert max(single) < 0.75
