import dataclasses
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import signal as dsp

from clef_jax.data.signals.preprocessing import (
    bandpass,
    fill_gaps,
    in_ecg_band,
    native_samples,
    normalise,
    preprocess,
    resample,
    zscore,
)
from clef_jax.data.signals.spec import CLEF_V2, ECGFOUNDER


def beats(fs, seconds=10.0, leads=1, seed=0):
    """Narrow R waves of 1 mV at 72 per minute over a little muscle noise."""
    t = np.arange(round(seconds * fs)) / fs
    r = np.exp(-(((t + 0.3) % (60 / 72) - 0.4) ** 2) / (2 * 0.012**2))
    return r + np.random.default_rng(seed).normal(0, 0.01, (leads, t.size))


def test_bandpass_is_butterworth_filtfilt():
    x = np.random.default_rng(0).normal(size=(3, 5000))
    b, a = dsp.butter(5, [0.67 / 250, 40 / 250], btype="bandpass")
    np.testing.assert_array_equal(bandpass(x, 500.0), dsp.filtfilt(b, a, x))


@pytest.mark.parametrize(
    ("hz", "gain"), [(0.0, 0), (0.1, 0), (10.0, 1), (25.0, 1), (100.0, 0), (40.0, 0.5)]
)
def test_bandpass_gain(hz, gain):
    t = np.arange(20_000) / 500
    middle = slice(5000, 15_000)
    y = bandpass(np.cos(2 * np.pi * hz * t), 500.0)
    # Forwards and backwards: the corner's 1/sqrt(2) twice is a half, without delay.
    np.testing.assert_allclose(
        y[middle], gain * np.cos(2 * np.pi * hz * t)[middle], atol=0.01 + 0.02 * (hz == 40)
    )


def test_bandpass_refuses_a_low_rate():
    with pytest.raises(ValueError, match="80.0 Hz.*60.0 Hz; resample first"):
        bandpass(np.zeros(1000), 60)


@pytest.mark.parametrize("fs", [100, 128, 200, 250, 257, 360, 400, 977.5, 1000, 2000])
def test_resampling_keeps_amplitude_phase_and_offset(fs):
    t = np.arange(int(10 * fs)) / fs
    wave = lambda t: 4.7 + 0.8 * np.sin(2 * np.pi * 7.3 * t + 0.4)  # noqa: E731
    y = resample(wave(t), fs, 500)
    assert abs(y.size - t.size * 500 / fs) <= 1
    expected = wave(np.arange(y.size) / 500)
    inner = slice(250, -250)
    # The filter's design (a Kaiser window of 5) lets the pass-band ripple by half a percent.
    np.testing.assert_allclose(y[inner], expected[inner], atol=0.005 * 0.8)
    # Even at the ends the offset of 4.7 does not ring.
    within = np.arange(y.size) / 500 <= t[-1]
    np.testing.assert_allclose(y[within], expected[within], atol=0.15)


def test_resampling_does_not_alias():
    t = np.arange(20_000) / 2000
    y = resample(np.sin(2 * np.pi * 480 * t), 2000, 500)
    assert np.abs(y[500:-500]).max() < 1e-3


def test_resampling_at_the_same_rate_changes_nothing():
    x = np.random.default_rng(0).normal(size=(2, 100))
    np.testing.assert_array_equal(resample(x, 500, 500.0), x)


def test_gaps_are_filled_as_by_interp():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 300))
    gaps = rng.random(x.shape) < 0.3
    gaps[2] = False
    gaps[3, :20] = gaps[3, -5:] = True
    x[gaps] = rng.choice([np.nan, np.inf, -np.inf], gaps.sum())
    before = x.copy()
    t = np.arange(300)
    expected = [np.interp(t, t[~g], row[~g]) for g, row in zip(gaps, x, strict=True)]
    np.testing.assert_array_equal(fill_gaps(x), expected)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(fill_gaps(x[0]), expected[0])


def test_a_lead_of_gaps_alone_is_refused():
    x = np.zeros((2, 10))
    x[1] = np.nan
    with pytest.raises(ValueError, match=r"channel \(1,\) has no finite sample"):
        fill_gaps(x)


def test_zscore():
    x = np.random.default_rng(0).normal(3, 7, (5, 400))
    z = zscore(x)
    np.testing.assert_allclose(z.mean(-1), 0, atol=1e-12)
    np.testing.assert_allclose(z.std(-1), 1, atol=1e-8)
    np.testing.assert_array_equal(zscore(np.full(50, 2.5)), 0)


def test_preprocess_filters_exactly_the_samples_it_keeps():
    x = np.random.default_rng(0).normal(size=(2, 9000)).cumsum(axis=1)
    b, a = dsp.butter(5, [0.67, 40], btype="bandpass", fs=500)
    np.testing.assert_array_equal(preprocess(x, 500), dsp.filtfilt(b, a, x[:, :5000]))


@pytest.mark.parametrize("fs", [100, 360, 1000])
def test_preprocess_gives_the_same_ecg_at_any_rate(fs):
    def r_waves(fs):
        t = np.arange(12 * fs) / fs
        return np.exp(-(((t + 0.3) % (60 / 72) - 0.4) ** 2) / (2 * 0.02**2))

    expected = preprocess(r_waves(500), 500)
    assert expected.shape == (5000,)
    found = preprocess(r_waves(fs) + 5, fs)
    np.testing.assert_allclose(found[250:-250], expected[250:-250], atol=8e-3)


def test_preprocess_refuses_a_short_recording():
    with pytest.raises(ValueError, match="9.99 s is shorter than the 10 s"):
        preprocess(np.zeros((12, 999)), 100)


@pytest.mark.parametrize("fs", [100, 128, 250, 257, 333.33, 360, 499.97, 500, 977.5, 1000])
def test_the_shortest_recording_that_is_long_enough(fs):
    for samples in range(int(10 * fs) - 4, int(10 * fs) + 3):
        x = np.random.default_rng(0).normal(size=samples)
        enough = resample(x, fs, 500).size >= 5000
        assert enough == (samples >= native_samples(fs))
        if enough:
            assert preprocess(x, fs).shape == (5000,)
        else:
            with pytest.raises(ValueError, match="is shorter than"):
                preprocess(x, fs)
            assert preprocess(x, fs, allow_short=True).size == resample(x, fs, 500).size


def test_no_rate_moves_the_end_of_a_window_by_more_than_half_a_millisecond():
    """The fraction that stands for a rate is near enough, whatever the rate of a recorder."""
    rng = np.random.default_rng(0)
    rates = [*rng.uniform(81, 2000, 3000), *(500 + rng.uniform(-0.1, 0.1, 1000)), 499.975, 249.89]
    for fs in rates:
        ratio = (Fraction(500) / Fraction(fs)).limit_denominator(CLEF_V2.max_denominator)
        assert abs(float(ratio) * fs / 500 - 1) * 10 <= 0.51e-3
        n = native_samples(fs)
        assert math.ceil(n * ratio) >= 5000 > math.ceil((n - 1) * ratio)


@pytest.mark.parametrize(
    ("fs", "message"),
    [
        (20, "too low a rate: 20 Hz cannot hold the band to 40 Hz; expected more than 80 Hz"),
        (80, "too low a rate: 80 Hz"),
        (0.5, "500 Hz if kHz were meant, 2000 Hz if ms between samples"),
        (2, "2000 Hz if kHz were meant, 500 Hz if ms between samples"),
        (0.004, "250 Hz if s between samples were meant"),
        (1e6, "too high a rate: 1000000 Hz .*at most 500000 Hz .1000 Hz if mHz were meant"),
        (0, "impossible rate: 0 Hz"),
        (-250, "impossible rate: -250 Hz"),
        (math.nan, "impossible rate: nan Hz"),
        (math.inf, "impossible rate: inf Hz"),
    ],
)
def test_rates_that_nobody_can_mean_are_refused(fs, message):
    with pytest.raises(ValueError, match=message):
        preprocess(np.zeros(5000), fs)


def test_the_lowest_rate_is_the_specs():
    wide = dataclasses.replace(CLEF_V2, band_hz=(0.5, 100.0))
    with pytest.raises(ValueError, match="200 Hz cannot hold the band to 100 Hz; expected more th"):
        preprocess(np.zeros(5000), 200, wide)
    with pytest.raises(ValueError, match="80 Hz cannot hold the band to 40 Hz"):
        preprocess(np.zeros(5000), 80, ECGFOUNDER)
    assert preprocess(beats(81)[0], 81, ECGFOUNDER).shape == (5000,)


def test_without_a_band_pass_samples_are_as_recorded_and_gaps_zero():
    x = beats(500, leads=2) + 3
    x[0, 10:60], x[1, -3:] = np.nan, np.inf
    expected = np.where(np.isfinite(x), x, 0)[:, :5000]
    np.testing.assert_array_equal(preprocess(x, 500, ECGFOUNDER), expected)
    np.testing.assert_array_equal(preprocess(np.full(5000, np.nan), 500, ECGFOUNDER), 0)


def test_windows_are_normalised_lead_by_lead_or_as_one():
    x = np.random.default_rng(0).normal(size=(3, 2, 400)) * [[[2.0], [5.0]]] + 1
    z = normalise(x, CLEF_V2)
    np.testing.assert_allclose(z.mean(-1), 0, atol=1e-12)
    np.testing.assert_allclose(z.std(-1), 1, rtol=1e-6)
    z = normalise(x, ECGFOUNDER)
    np.testing.assert_allclose(z.mean((1, 2)), 0, atol=1e-12)
    np.testing.assert_allclose(z.std((1, 2)), 1, rtol=1e-6)
    ratio = z.std(-1)[:, 1] / z.std(-1)[:, 0]
    np.testing.assert_allclose(ratio, x.std(-1)[:, 1] / x.std(-1)[:, 0])


def test_noise_is_judged_in_the_ecgs_band():
    x = beats(500)[0, :5000]
    for corners in ((0.67, 40.0), (1.0, 35.0)):
        assert in_ecg_band(x, dataclasses.replace(CLEF_V2, band_hz=corners)) is x
    np.testing.assert_array_equal(in_ecg_band(x, ECGFOUNDER), bandpass(x, 500.0))
    for corners in ((0.67, 45.0), (0.05, 35.0)):  # Muscles above the ECG; wander below it.
        wider = dataclasses.replace(CLEF_V2, band_hz=corners)
        np.testing.assert_array_equal(in_ecg_band(x, wider), bandpass(x, 500.0))
    at_250 = dataclasses.replace(ECGFOUNDER, fs=250.0, samples=2500)
    np.testing.assert_array_equal(in_ecg_band(x, at_250), bandpass(x, 250.0))


@pytest.mark.parametrize("fs", [80.5, 125, 32_000])
def test_rates_of_recorders_are_taken(fs):
    assert preprocess(beats(fs)[0], fs).shape == (5000,)
