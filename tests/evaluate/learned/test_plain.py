"""Plain measurements against annotations by cardiologists and against simulated hearts."""

import dataclasses

import numpy as np
import pytest

from clef_jax.data.demo.hearts import draw_heart, simulate_ecg
from clef_jax.data.recordings import read_recording
from clef_jax.data.signals import preprocessing
from clef_jax.data.signals.spec import CLEF_V2
from clef_jax.evaluate.learned.plain import PLAIN_FEATURES, plain_features, r_peaks

PERSON = {
    "age": 55, "male": 1, "smoker": 0, "diabetes": 0,
    "sbp_mmhg": 130, "total_chol_mmol_l": 5.3, "hdl_mmol_l": 1.35,
}  # fmt: skip
LEAD_II = 1


def _measured(heart, seed):
    ecg = simulate_ecg(heart, np.random.default_rng(seed))
    found = plain_features(preprocessing.preprocess(ecg[LEAD_II], 500), 500)
    return dict(zip(PLAIN_FEATURES, found, strict=True))


def _heart(seed=0, **changes):
    heart = draw_heart(PERSON, np.random.default_rng(seed))
    quiet = {"fibrillates": False, "atrial_ectopy": 0.0, "ventricular_ectopy": 0.0}
    return dataclasses.replace(heart, **quiet | changes)


@pytest.mark.parametrize("spec", [CLEF_V2, dataclasses.replace(CLEF_V2, fs=250.0, samples=2500)])
def test_beats_are_those_that_cardiologists_annotated(real_data, spec):
    wfdb = pytest.importorskip("wfdb")
    found, annotated, agreeing = 0, 0, 0
    for number in range(1, 41):
        path = real_data / "ludb" / "data" / str(number)
        if not path.with_suffix(".hea").is_file():
            continue
        notes = wfdb.rdann(str(path), "ii")
        beats = np.array([s for s, c in zip(notes.sample, notes.symbol, strict=True) if c == "N"])
        recording = read_recording(path)
        lead = recording.signal_mv[list(recording.leads).index("II")]
        peaks = r_peaks(preprocessing.preprocess(lead, 500, spec), spec.fs) * 500 // round(spec.fs)
        # The ends are not annotated.
        peaks = peaks[(peaks > beats[0] - 50) & (peaks < beats[-1] + 50)]
        distance = np.abs(beats[:, None] - peaks[None, :]).min(axis=1)
        found, annotated = found + len(peaks), annotated + len(beats)
        agreeing += np.sum(distance < 50)
    assert annotated > 200
    assert agreeing > 0.97 * annotated
    assert found < 1.03 * annotated


@pytest.mark.parametrize("rate", [50.0, 75.0, 110.0])
def test_rate_is_the_hearts(rate):
    measured = [_measured(_heart(rate=rate), seed)["heart rate, 1/min"] for seed in range(12)]
    # Days differ by 9 %.
    assert np.exp(np.mean(np.log(measured))) == pytest.approx(rate, rel=0.08)


def test_longer_intervals_measure_longer():
    def mean(name, **changes):
        return np.mean([_measured(_heart(seed, **changes), seed)[name] for seed in range(10)])

    assert mean("P to R, s", pr=0.22) - mean("P to R, s", pr=0.15) == pytest.approx(0.07, abs=0.02)
    longer = mean("corrected R to T, s", qtc=0.45) - mean("corrected R to T, s", qtc=0.39)
    assert longer == pytest.approx(0.06, abs=0.02)
    assert mean("QRS width, s", qrs=0.15) > mean("QRS width, s", qrs=0.08) + 0.02
    fibrillating = mean("log RMSSD, s", fibrillates=True)
    assert fibrillating > mean("log RMSSD, s") + 1


def test_only_what_is_called_mv_depends_on_amplitude():
    ecg = simulate_ecg(_heart(), np.random.default_rng(1))[LEAD_II]
    x = preprocessing.preprocess(ecg, 500)
    small, large = plain_features(x, 500), plain_features(100 * x, 500)
    in_mv = np.array(["mV" in name for name in PLAIN_FEATURES])
    np.testing.assert_allclose(large[in_mv], 100 * small[in_mv], rtol=1e-2)
    np.testing.assert_allclose(large[~in_mv], small[~in_mv], rtol=0.02, atol=0.02)


@pytest.mark.parametrize("x", [np.zeros(5000), np.eye(1, 5000, 2500)[0]])
def test_without_beats_there_is_no_measurement(x):
    found = plain_features(x, 500)
    assert found.shape == (len(PLAIN_FEATURES),)
    assert np.isnan(found[[0, 5, 12]]).all()
