"""Which leads and which windows of a recording are taken."""

from fractions import Fraction

import numpy as np
import pytest
from absl import logging

from clef_jax.data.recordings import OpenRecording, RecordingError
from clef_jax.data.recordings.arrays import array_recording
from clef_jax.data.windows.cut import (
    WindowError,
    WindowSettings,
    choose_leads,
    choose_leads_of,
    preprocess_windows,
    read_windows,
    window_starts,
)


def chosen(found, leads=None, channels=1):
    settings = WindowSettings(leads=leads, channels=channels)
    return [found[i] for i in choose_leads(found, settings, "file")]


def test_default_lead():
    assert chosen(["V1", "I", "II"]) == ["I"]
    generic_names = ("ECG", "ekg 1", "ECG1", "signal 0", "Channel_2", "ch1", "ECG1-ECG2", "")
    for generic in generic_names:
        assert chosen([generic]) == [generic]
    for found in (["V5"], ["MLII"], ["noise1"], ["ECG", "PPG"], ["II", "V1"], ["ECG1", "ECG2"]):
        with pytest.raises(RecordingError, match="file: no lead I; the recording has"):
            chosen(found)


def test_leads_in_order_of_preference():
    assert chosen(["MLII", "V5"], ("I", "II", "mlii")) == ["MLII"]
    assert chosen(["V5", "II"], ("lead ii", "V5")) == ["II"]
    assert chosen(["V5", "II"], ("all",)) == ["V5", "II"]
    assert chosen(["II", "II (2)"], ("II",)) == ["II"]
    assert chosen(["II", "II (2)"], ("ii (2)",)) == ["II (2)"]
    # a lead that was asked for by name is not guessed from a file without names
    with pytest.raises(RecordingError, match="no lead II; the recording has ECG"):
        chosen(["ECG"], ("II",))


def test_leads_of_an_encoder_of_several():
    assert chosen(["V1", "II", "I"], ("I", "II"), channels=2) == ["I", "II"]
    with pytest.raises(RecordingError, match="sees 2 leads at once, but 0 were named"):
        chosen(["I", "II"], channels=2)
    with pytest.raises(RecordingError, match="no lead aVR, aVL"):
        chosen(
            [lead for lead in ("I", "II", "III", "aVF", *(f"V{i}" for i in range(1, 7)))], None, 12
        )


def test_copies_of_a_lead_are_each_read():
    signal_mv = np.random.default_rng(0).normal(size=(4, 12 * 250))
    recording = array_recording(signal_mv, 250, None, ["II", "ECG", "ecg ii", "ECG"])
    settings = WindowSettings(leads=("all",))
    positions = choose_leads_of(recording, settings)
    windows = read_windows(recording, positions, [0, 250], settings)
    assert windows.lead == 2 * ["II", "ECG", "II (2)", "ECG (2)"]
    alone = [array_recording(row, 250, "I", None) for row in signal_mv]
    expected = [read_windows(row, [0], [0, 250], settings).x for row in alone]
    np.testing.assert_array_equal(windows.x[:4, :, 0], [x[0, :, 0] for x in expected])
    np.testing.assert_array_equal(windows.x[4:, :, 0], [x[1, :, 0] for x in expected])
    second = read_windows(recording, [3], [0], settings)
    np.testing.assert_array_equal(second.x[0], expected[3][0])


def test_channels_left_out_are_said(monkeypatch):
    said = []
    monkeypatch.setattr(logging, "warning", lambda message, *values: said.append(message % values))
    plain = array_recording(np.zeros((2, 5000)), 500, None, ["II", "V1"])
    left_out = ("PLETH: unit 'NU'", "ABP: unit 'mmHg'")
    recording = OpenRecording(plain.header, plain.fetch, left_out)
    with pytest.raises(RecordingError, match=r"no lead ABP; .*has II, V1 \(left out: PLETH: unit"):
        choose_leads_of(recording, WindowSettings(leads=("ABP",)))
    assert choose_leads_of(recording, WindowSettings(leads=("V1",))) == [1]
    assert said == []  # nobody asked for them
    for _ in range(3):
        assert choose_leads_of(recording, WindowSettings(leads=("all",))) == [0, 1]
    assert said == ["signal: left out PLETH: unit 'NU'; ABP: unit 'mmHg'"]


@pytest.mark.parametrize("fs", [100, 128, 200, 250, 256, 257, 333.3, 360, 500, 977, 1000])
@pytest.mark.parametrize("window_s, stride_s", [(10, 10), (10, 2.5), (4, 7), (2.5, 0.7)])
def test_windows_cover_what_the_recording_holds(fs, window_s, stride_s):
    settings = WindowSettings(window_s=window_s, stride_s=stride_s)
    rng = np.random.default_rng(0)
    for samples in rng.integers(1, round(60 * fs), 25):
        starts = window_starts(int(samples), fs, settings)
        seconds = Fraction(int(samples)) / Fraction(str(fs))
        room = seconds - Fraction(str(window_s))
        expected = int(room // Fraction(str(stride_s))) + 1 if room >= 0 else 0
        # at most one more, where the last window ends within the recording's last sample
        assert expected <= len(starts) <= expected + 1
        np.testing.assert_allclose(starts, np.arange(len(starts)) * stride_s * fs, atol=0.5)
    signal_mv = rng.normal(size=(1, round(15 * fs)))
    starts = window_starts(signal_mv.shape[1], fs, settings)
    windows = preprocess_windows(signal_mv, fs, starts, ["I"], settings)
    assert windows.x.shape == (len(starts), round(window_s * 500), 1)
    np.testing.assert_allclose(windows.x.std(axis=1), 1.0, atol=1e-4)


def test_settings_that_make_no_sense():
    for settings in ({"window_s": 0.5}, {"stride_s": 0.0}, {"stride_s": -1.0}):
        with pytest.raises(WindowError, match="expected windows of at least 1 s"):
            WindowSettings(**settings)
