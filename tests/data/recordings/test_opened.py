"""Parts of recordings, and leads of several rates brought to one."""

import numpy as np
import pytest

from clef_jax.data.recordings.opened import OpenRecording, at_one_rate, ecg_positions, make_header
from clef_jax.data.recordings.recording import RecordingError
from clef_jax.data.signals import preprocessing


def recording(signal_mv, leads, fs=100.0):
    header = make_header("r", fs, leads, signal_mv.shape[1])
    return OpenRecording(header, lambda rows, start, stop: signal_mv[list(rows), start:stop])


def test_leads_are_read_by_position():
    signal_mv = np.random.default_rng(0).normal(size=(3, 50))
    opened = recording(signal_mv, ["II", "II (2)", "V1"])
    found = opened.read(leads=["v1", "II (2)", "lead 2", "V1"], start=5, stop=99)
    assert found.leads == ("V1", "II (2)", "II", "V1")
    np.testing.assert_array_equal(found.signal_mv, signal_mv[[2, 1, 0, 2], 5:])
    np.testing.assert_array_equal(opened.read_positions([1], 3, 9), signal_mv[[1], 3:9])
    for start, stop in ((-1, 5), (5, 5), (50, None)):
        with pytest.raises(RecordingError, match="the recording has 50; ask for a range within"):
            opened.read(start=start, stop=stop)
    with pytest.raises(RecordingError, match="r: lead V3, C1 not found; the recording has II, II"):
        opened.read(leads=["V3", "V1", "C1"])


def test_ecg_positions():
    reasons = [None, "no unit", None]
    assert ecg_positions("r", ["I", "", "II"], reasons) == ([0, 2], ("channel 1: no unit",))
    with pytest.raises(RecordingError, match="r: no channel is an ECG: SpO2: unit '%'; correct"):
        ecg_positions("r", ["SpO2"], ["unit '%'"])
    with pytest.raises(RecordingError, match="r: no channel is an ECG: there is none"):
        ecg_positions("r", [], [])


RATES = (500.0, 250.0, 125.0, 128.0, 62.5, 1000 / 3, 499.97, 500.0)


@pytest.fixture(scope="module")
def several_rates():
    """20 s of signals at several rates, gaps in two, with a record of how each was asked for."""
    rng = np.random.default_rng(0)
    native = [3.0 + np.cumsum(rng.normal(size=int(20 * fs))) * 0.02 for fs in RATES]
    native[1][1000:1200] = np.nan
    native[4][:30] = native[4][77] = np.nan

    def fetch(positions, start, stop):
        assert len({RATES[i] for i in positions}) == 1
        assert all(0 <= start < stop <= len(native[i]) for i in positions)
        return np.stack([native[i][start:stop] for i in positions])

    return native, at_one_rate(fetch, RATES, [len(x) for x in native])


def test_the_highest_rate_is_untouched(several_rates):
    native, (fetch, fs, samples) = several_rates
    assert (fs, samples) == (500.0, 10_000)
    np.testing.assert_array_equal(fetch([7, 0], 5, 900), [native[7][5:900], native[0][5:900]])


@pytest.mark.parametrize("lead", range(1, 7))
def test_a_lead_of_another_rate(several_rates, lead):
    native, (fetch, _, samples) = several_rates
    whole = fetch([0, lead], 0, samples)[1]
    gaps = np.isnan(native[lead])
    expected = preprocessing.resample(preprocessing.fill_gaps(native[lead]), RATES[lead], 500.0)[
        :samples
    ]
    kept = np.isfinite(whole[: expected.size])
    np.testing.assert_allclose(whole[: expected.size][kept], expected[kept], rtol=0, atol=1e-9)
    # what is missing is what is nearest to a missing sample, and at most a sample at the end
    nearest = np.floor(np.arange(samples) * RATES[lead] / 500.0 + 0.5).astype(int)
    missing = gaps[np.minimum(nearest, gaps.size - 1)]
    np.testing.assert_array_equal(~np.isfinite(whole)[:-2], missing[:-2])


@pytest.mark.parametrize("lead", range(1, 6))
def test_parts_agree_with_the_whole(several_rates, lead):
    native, (fetch, _, samples) = several_rates
    whole = fetch([lead], 0, samples)[0]
    # How far each sample is from an end or a gap, in native samples.
    edges = np.flatnonzero(np.diff(np.isnan(np.r_[np.nan, native[lead], np.nan])))
    at = np.arange(samples) * RATES[lead] / 500.0
    inside = np.abs(at[:, None] - edges).min(axis=1) > 11
    for start, stop in np.sort(np.random.default_rng(lead).integers(0, samples, (40, 2))):
        stop += 1
        part, rows = fetch([lead, 0], start, stop)[0], inside[start:stop]
        np.testing.assert_allclose(part, whole[start:stop], rtol=0, atol=1e-4)
        np.testing.assert_allclose(part[rows], whole[start:stop][rows], rtol=0, atol=1e-12)
