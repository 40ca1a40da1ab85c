"""Flags: noise told from ECGs of every kind, spikes bridged, empty inputs never called ok."""

import numpy as np
import pytest
import wfdb

from clef_jax.data.recordings import read_recording
from clef_jax.data.shards.prepare import Rejection
from clef_jax.data.signals import preprocessing, quality
from clef_jax.data.signals.leads import STANDARD_LEADS
from clef_jax.data.signals.quality import QualityFlag, is_noise, lead_faults, quality_flag
from clef_jax.data.signals.spikes import remove_spikes
from clef_jax.data.windows.cut import WindowSettings, preprocess_windows
from tests.shard_records import first_window


def heart(rate, width_s, *, irregular=0.0, fs=500, seconds=11.0, seed=0):
    """Complexes of 1 mV with T waves over a little noise, `rate` a minute, by width (SD)."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * fs)) / fs
    x = rng.normal(0, 0.01, t.size)
    at = 0.3
    while at < seconds + 1:
        for delay, size, width in ((0, 1, width_s), (2.2 * width_s, -0.3, width_s)):
            x += size * np.exp(-((t - at - delay) ** 2) / (2 * width**2))
        x += 0.25 * np.exp(-((t - at - 0.28 * min(1, (60 / rate) ** 0.5)) ** 2) / (2 * 0.06**2))
        at += max(0.25, 60 / rate * (1 + irregular * rng.normal()))
    return x


def windows_of(x, fs=500, window_s=10.0):
    settings = WindowSettings(window_s=window_s)
    return preprocess_windows(np.atleast_2d(x), fs, [0], ["I"], settings)


def flag_of(x, fs=500, window_s=10.0):
    (flag,) = windows_of(x, fs, window_s).quality
    return flag


def correlation(a, b):
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


# --- noise ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("irregular", [0.0, 0.2])
@pytest.mark.parametrize("rate", [25, 40, 60, 90, 120, 150, 180])
def test_hearts_of_any_rate_and_width_are_no_noise(rate, irregular):
    for width_s in (0.01, 0.02, 0.035, 0.05):
        for size in (0.1, 1.0, 4.0):
            x = preprocessing.preprocess(size * heart(rate, width_s, irregular=irregular), 500)
            assert not is_noise(x, 500), (width_s, size)


def test_beats_of_two_kinds_are_no_noise():
    normal, broad = heart(60, 0.012), 1.5 * heart(60, 0.05, seed=1)
    second = (np.arange(normal.size) / 500 // 1 % 2).astype(bool)
    for mixed in (np.where(second, normal, broad), np.where(second, normal, -broad)):
        assert flag_of(mixed) == "ok"


@pytest.mark.parametrize("seed", range(10))
def test_noise_of_many_kinds_is_flagged(seed):
    rng = np.random.default_rng(seed)
    t = np.arange(5500) / 500
    white = rng.normal(0, 0.1, t.size)
    muscle = white * (1 + np.sin(2 * np.pi * rng.uniform(0.1, 1) * t + rng.uniform(0, 6)))
    fibrillation = np.sin(2 * np.pi * (5 * t + 0.02 * np.cumsum(rng.normal(size=t.size))))
    hum = np.sin(2 * np.pi * rng.uniform(49.9, 50.1) * t + rng.uniform(0, 6))
    for x in (white, muscle, fibrillation, hum, np.cumsum(white)):
        assert flag_of(x) == "noise"


@pytest.mark.parametrize("window_s", [1.0, 2.5, 4.0, 7.0, 10.0])
def test_windows_of_other_lengths(window_s):
    rng = np.random.default_rng(0)
    noisy = [flag_of(rng.normal(size=6000), 500, window_s) for _ in range(10)]
    beating = [flag_of(heart(70, 0.02, seed=seed), 500, window_s) for seed in range(10)]
    assert set(beating) == {"ok"}
    # A second holds too few complexes to judge.
    assert set(noisy) == {"ok"} if window_s == 1 else noisy.count("noise") >= 8


def test_amplitude_and_sign_do_not_matter():
    for x in (heart(70, 0.02), np.random.default_rng(0).normal(size=5000)):
        filtered = preprocessing.preprocess(x, 500)
        assert len({is_noise(gain * filtered, 500) for gain in (1, -1, 1e-3, 1e3)}) == 1


def ptb_xl(real_data):
    return sorted((real_data / "ptb-xl/records500/00000").glob("*.hea"))


def flagged(path, lead, starts, adu_per_mv=None):
    recording = read_recording(path, adu_per_mv=adu_per_mv)
    x = recording.signal_mv[recording.leads.index(lead)]
    first = (round(start * recording.fs) for start in starts)
    pieces = (x[start : start + round(11 * recording.fs)] for start in first)
    return np.mean([is_noise(preprocessing.preprocess(x, recording.fs), 500) for x in pieces])


def test_broad_and_paced_complexes_are_no_noise(real_data):
    assert not flagged(real_data / "ptb-xl/records500/00000/00346_hr", "II", [0])
    for lead in ("MLII", "V1"):  # paced
        assert flagged(real_data / "mitdb/217", lead, range(0, 1790, 10)) <= 0.01
    assert flagged(real_data / "mitdb/100", "MLII", range(0, 1790, 10)) == 0
    assert flagged(real_data / "cpsc2021/data_84_1", "I", range(0, 150, 10)) == 0  # AF


def test_recorded_noise_is_flagged(real_data):
    for name, least in (("bw", 0.99), ("ma", 0.99), ("em", 0.4)):
        noise = read_recording(real_data / "nstdb" / name).leads[0]
        assert flagged(real_data / "nstdb" / name, noise, range(600, 1180, 10)) >= least


def test_more_noise_is_flagged_more_often(real_data):
    """Noise over ECGs of PTB-XL at fixed ratios to the amplitude of the QRS."""
    ecgs, disturbances = [], []
    for path in ptb_xl(real_data)[:39]:
        recording = read_recording(path)
        ecgs.append(preprocessing.preprocess(recording.signal_mv[1], recording.fs))
    noise = read_recording(real_data / "nstdb/ma")
    for second in range(600, 990, 10):
        part = noise.signal_mv[0, second * 360 : (second + 11) * 360]
        disturbances.append(preprocessing.preprocess(part, 360))
    shares = []
    for snr_db in (24, 6, -6):
        mixed = [
            ecg + z * np.ptp(ecg) / np.sqrt(8) / 10 ** (snr_db / 20) / z.std()
            for ecg, z in zip(ecgs, disturbances, strict=True)
        ]
        shares.append(np.mean([is_noise(x, 500) for x in mixed]))
    assert shares[0] <= 0.05 < shares[1] < shares[2]
    assert shares[2] == 1


# --- spikes --------------------------------------------------------------------------------------


def spiked(x, rng, fs=500):
    """Adds one to three spikes of up to 20 ms that no heart makes."""
    y = x.copy()
    for _ in range(rng.integers(1, 4)):
        width = rng.integers(1, max(2, round(0.02 * fs)))
        at = rng.integers(0, x.size - width)
        size = 10 ** rng.choice([rng.uniform(1.35, 3), rng.uniform(3, 308)])
        y[at : at + width] = size * rng.choice([-1, 1])
    return y


def assert_usable_or_flagged(clean, found):
    (flag,) = found.quality
    assert np.isfinite(found.x).all()
    if flag in quality.UNUSABLE:
        return
    assert found.x.std() == pytest.approx(1, abs=1e-3)
    assert flag != "ok" or correlation(clean.x, found.x) > 0.99


@pytest.mark.parametrize("fs", [100, 360, 500, 1000])
def test_a_spike_is_bridged_and_said(fs):
    rng = np.random.default_rng(fs)
    x = heart(70, 0.02, fs=fs)
    clean = windows_of(x, fs)
    assert clean.quality == ["ok"]
    near = []
    for _ in range(60):
        found = windows_of(spiked(x[: 10 * fs], rng, fs), fs)
        assert_usable_or_flagged(clean, found)
        assert found.quality != ["ok"]
        near.append(correlation(clean.x, found.x))
    assert np.median(near) > 0.99


@pytest.mark.parametrize("size", [16.0, 50.0, 1e4, 1e155, 1e200, 1e308, np.inf])
def test_one_sample_of_any_size(size):
    x = heart(70, 0.02)
    clean = windows_of(x)
    for at in np.random.default_rng(0).integers(0, 5000, 20):
        for sign in (-1, 1):
            y = x.copy()
            y[at] = sign * size
            found = windows_of(y)
            assert found.quality == ["spikes"]
            assert correlation(clean.x, found.x) > 0.99


def test_spikes_in_real_recordings(real_data):
    rng = np.random.default_rng(0)
    for path in ptb_xl(real_data)[:30]:
        recording = read_recording(path)
        for x in recording.signal_mv[rng.integers(0, 12, 3)]:
            clean = windows_of(x)
            assert "spikes" not in clean.quality
            found = windows_of(spiked(x, rng))
            assert_usable_or_flagged(clean, found)
            assert found.quality != ["ok"]


def test_a_lone_needle_is_said_and_left():
    x = heart(70, 0.02)
    x[2345:2348] += 8
    same, spiky = remove_spikes(x[None], 500)
    np.testing.assert_array_equal(same[0], x)
    assert spiky.all() and flag_of(x) == "spikes"


@pytest.mark.parametrize("size", [2.0, 5.0, 10.0])
def test_a_pacemaker_s_pulses_survive(size):
    x = heart(70, 0.05)
    for at in np.arange(0.22, 11, 60 / 70):
        x[round(at * 500)] += size
    same, spiky = remove_spikes(x[None], 500)
    np.testing.assert_array_equal(same[0], x)
    assert not spiky.any() and flag_of(x) == "ok"


def test_sound_leads_stay_as_they_are(real_data):
    for path in ("ptb-xl/records100/00000/00001_lr", "ludb/data/34", "ptbdb/patient001/s0010_re"):
        recording = read_recording(real_data / path, adu_per_mv=1000 if "ludb" in path else None)
        same, spiky = remove_spikes(recording.signal_mv, recording.fs)
        np.testing.assert_array_equal(same, recording.signal_mv)
        assert not spiky.any()


# --- empty inputs --------------------------------------------------------------------------------


def test_an_input_without_signal_is_never_ok():
    t = np.arange(5500) / 500
    gone = np.full(t.size, np.nan)
    for x, flag in (
        (np.zeros(t.size), "flat"),
        (np.full(t.size, 1e300), "non-finite"),
        (gone, "non-finite"),
        (np.full(t.size, -np.inf), "non-finite"),
        (0.01 * t, "flat"),  # a drift, of which the band-pass leaves nothing
        (np.where(t < 5, 1e200, 0.0), "non-finite"),
    ):
        found = windows_of(x)
        assert found.quality == [flag]
        assert not found.x.any()


def write_12_leads(path, x):
    names = list(STANDARD_LEADS)
    wfdb.wrsamp(
        path.name, 500, ["mV"] * 12, names, p_signal=x.T, fmt=["16"] * 12, write_dir=path.parent,
        adc_gain=[1000.0] * 12, baseline=[0] * 12,
    )  # fmt: skip


def twelve_leads():
    return np.stack([heart(70, 0.02, seed=seed) for seed in range(12)])


def test_a_lead_of_drift_alone_is_rejected_by_name(tmp_path):
    x = twelve_leads()
    x[6] = np.linspace(0, 0.1, x.shape[1])
    write_12_leads(tmp_path / "drift", x)
    with pytest.raises(Rejection, match="bad leads: V1 flat after filtering"):
        first_window(str(tmp_path / "drift"))
    prepared = first_window(str(tmp_path / "drift"), min_leads=8)
    assert len(prepared.leads) == 11 and "V1" not in prepared.leads


def test_a_spike_does_not_reach_the_shard(tmp_path):
    x = twelve_leads()
    write_12_leads(tmp_path / "clean", x)
    x[3, 2222] = 30.0
    write_12_leads(tmp_path / "spike", x)
    clean, spike = (first_window(str(tmp_path / name)) for name in ("clean", "spike"))
    assert spike.spiky and not clean.spiky
    assert spike.leads == clean.leads
    for a, b in zip(clean.steps, spike.steps, strict=True):
        assert correlation(a, b) > 0.99


# --- faults of a lead ----------------------------------------------------------------------------


def beats(fs, seed=0):
    """Narrow R waves of 1 mV at 72 per minute over a little muscle noise."""
    t = np.arange(10 * fs) / fs
    r = np.exp(-(((t + 0.3) % (60 / 72) - 0.4) ** 2) / (2 * 0.012**2))
    return r[None] + np.random.default_rng(seed).normal(0, 0.01, (1, t.size))


def faults_of(x, fs=500):
    (fault,) = lead_faults(np.atleast_2d(x), fs)
    if fault is None:
        assert quality_flag(np.ravel(x), fs) == QualityFlag.OK
        return None
    assert quality_flag(np.ravel(x), fs) == fault.flag
    assert fault.reason.startswith(fault.flag)
    return fault.reason


@pytest.mark.parametrize("fs", [100, 500, 1000])
@pytest.mark.parametrize("step_mv", [1e-3, 5e-3])
def test_a_sound_lead_has_no_fault(fs, step_mv):
    x = np.round(beats(fs) / step_mv) * step_mv
    assert faults_of(x, fs) is None
    assert faults_of(0.15 * x - 4, fs) is None


def test_faults_are_named():
    x = beats(500)[0]
    missing, off, still, rail, clipped = (x.copy() for _ in range(5))
    missing[1000:1400] = np.nan
    off[:] = 0.003
    still[:2000] = x[0]
    rail[:200] = 32.767
    clipped[clipped > 0.3] = 0.3
    assert faults_of(missing) == "non-finite in 8% of samples"
    assert faults_of(np.full(5000, np.nan)) == "non-finite in 100% of samples"
    assert faults_of(off) == "flat: 0 µV peak to peak"
    assert faults_of(still) == "flat in 40% of samples"
    assert faults_of(rail) == "saturated: beyond 15 mV in 4% of samples"
    assert faults_of(clipped).startswith("clipped in ")


def test_short_blemishes_are_no_faults():
    x = beats(500)[0]
    x[100:300] = np.nan
    x[2000:2300] = x[2000]
    x[4000:4020] = 30
    assert faults_of(x) is None


def test_faults_in_real_recordings(real_data):
    def bad(path):
        recording = read_recording(real_data / path)
        faults = lead_faults(recording.signal_mv[:, : int(10 * recording.fs)], recording.fs)
        return {n: f.reason for n, f in zip(recording.leads, faults, strict=True) if f}

    flat = dict.fromkeys(("V2", "V4", "V6"), "flat: 0 µV peak to peak")
    assert bad("challenge-2021/ningbo/JS20004") == flat
    assert bad("challenge-2021/ningbo/JS20008") == flat
    assert bad("ptbdb/patient001/s0010_re") == {}
    for path in sorted((real_data / "ptb-xl/records500/00000").glob("*.hea"))[:40]:
        assert bad(path) == {}
