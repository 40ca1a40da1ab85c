"""Each dataset's reference preparation against its description, transcribed in float64."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import wfdb
from scipy import signal as dsp

from clef_jax.data.recordings import RecordingError, open_recording
from clef_jax.data.recordings.recording import Hints
from clef_jax.evaluate.windows.inputs import train_scale
from clef_jax.evaluate.windows.preparation import (
    Preparation,
    PreparationError,
    Scale,
    Window,
    native_window,
    prepare,
)
from tests.embed_runs import write_wfdb
from tests.wfdb_records import write_record

PTBXL = Preparation(assumed_fs=100.0, resampling="fourier", band_hz=None, scale="train")
CHAPMAN = Preparation(minmax_record=True)
ICENTIA = Preparation(resampling="fourier", band_first=True)
MUSIC = Preparation(resampling="fourier", band_hz=None, scale="none", window="first valid")
MIMIC = Preparation(band_hz=None, missing="zeros")
MCMED = Preparation(short="all zeros")
AURORA = Preparation(band_hz=None, missing="drop", window="random", short="zeros before")


def prepared(path, preparation, lead, *, scale=None, start_s=0.0, example="e", **hints):
    window = Window(example, str(path), lead, start_s, 10.0)
    x = prepare(open_recording(path, **hints), window, preparation, scale)
    assert x.dtype == np.float32 and x.shape == (5000,)
    return x


def band_pass(x, fs):
    b, a = dsp.butter(5, [0.67 / (fs / 2), 40 / (fs / 2)], "band")
    return dsp.filtfilt(b, a, x)


def z(x):
    return (x - x.mean()) / (x.std() + 1e-8)


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


@pytest.fixture(scope="module")
def ptbxl(real_data):
    return sorted((real_data / "ptb-xl/records500/00000").glob("*.hea"))[:6]


def test_ptbxl_sees_two_seconds_stretched_and_scaled_by_the_training_records(ptbxl):
    lead_ii = [wfdb.rdrecord(str(f.with_suffix(""))).p_signal[:, 1] for f in ptbxl]
    train = np.concatenate(lead_ii[:4])
    windows = [Window(f.stem, str(f), "II", 0.0, 10.0) for f in ptbxl[:4]]
    scale = train_scale(windows, PTBXL, hints=Hints(), workers=0)
    np.testing.assert_allclose(scale, (train.mean(), train.std()), rtol=1e-9)
    for file, native in zip(ptbxl, lead_ii, strict=True):
        scaled = (native - train.mean()) / train.std()
        expected = dsp.resample(scaled, 25_000)[:5000]
        found = prepared(file, PTBXL, "II", scale=scale)
        close(found, expected)
        # A fifth of the native samples is what is seen.
        assert np.abs(found[::5] - scaled[:1000]).max() < 1e-4


def test_chapman_is_stretched_between_the_extremes_of_all_leads(real_data):
    (record, *_) = sorted((real_data / "chapman-shaoxing-ningbo").rglob("JS00001.hea"))
    native = wfdb.rdrecord(str(record.with_suffix(""))).p_signal.T
    low, high = native.min(), native.max()
    stretched = (native[1] - low) / (high - low) * 6 - 3
    window = Window("e", str(record), "II", 0.0, 10.0)
    found, _ = native_window(open_recording(record), window, CHAPMAN)
    np.testing.assert_allclose(found[0], stretched, rtol=0, atol=1e-12)
    # In its (b, a) form the filter makes some thousandths of the last bit of an offset.
    expected = z(band_pass(stretched, 500))
    np.testing.assert_allclose(prepared(record, CHAPMAN, "II"), expected, rtol=0, atol=5e-3)


def test_chapman_refuses_a_constant_record(tmp_path):
    write_record(tmp_path, x=np.full((12, 5000), 7, "<i2"))
    with pytest.raises(PreparationError, match="all its samples are alike"):
        prepared(tmp_path / "r", CHAPMAN, "II")


def test_icentia_is_filtered_before_it_is_resampled(tmp_path):
    write_wfdb(tmp_path, "s", seconds=40, leads=("ecg",))
    native = wfdb.rdrecord(str(tmp_path / "s")).p_signal[:, 0]
    part = native[3000:5500]
    expected = z(dsp.resample(band_pass(part, 250), 5000))
    close(prepared(tmp_path / "s", ICENTIA, "ecg", start_s=12.0), expected)
    after = prepared(
        tmp_path / "s", dataclasses.replace(ICENTIA, band_first=False), "ecg", start_s=12.0
    )
    assert np.abs(after - expected).max() > 0.01


@pytest.mark.parametrize("spoilt", [0, 1, 3, 12])
def test_music_takes_the_first_valid_window_in_millivolts(tmp_path, spoilt):
    """By zeros, missing samples or a flat line in turn; after ten windows the first it is."""
    x = np.random.default_rng(0).normal(0, 300, (3, 60_000)).astype("<i2")
    for k in range(spoilt):
        at = 5000 * k
        if k % 3 == 0:
            x[0, at : at + 2000 : 9] = 0
        elif k % 3 == 1:
            x[0, at : at + 250] = -32768
        else:
            x[0, at : at + 2000] = 5
    write_record(tmp_path, x=x, leads=("X", "Y", "Z"), fs=200)
    start = 5000 * spoilt if spoilt < 10 else 0
    expected = dsp.resample(x[0, start : start + 2000] / 1000.0, 5000)
    close(prepared(tmp_path / "r", MUSIC, "X"), expected)


def test_mimic_takes_zeros_for_what_is_missing(ptbxl, tmp_path):
    native = wfdb.rdrecord(str(ptbxl[0].with_suffix(""))).p_signal[:, 1]
    close(prepared(ptbxl[0], MIMIC, "II"), z(native))
    x = np.random.default_rng(1).normal(0, 300, (12, 5000)).astype("<i2")
    x[1, 1000:1400] = -32768
    write_record(tmp_path, x=x)
    known = np.where(x[1] == -32768, 0, x[1] / 1000.0)
    close(prepared(tmp_path / "r", MIMIC, "II"), z(known))


def test_the_twelve_leads_of_mimic_share_a_scale(tmp_path):
    x = write_record(tmp_path) / 1000.0
    x = (x - x.mean()) / x.std()
    close(prepared(tmp_path / "r", dataclasses.replace(MIMIC, scale="record"), "aVL"), x[4])


def test_mcmed_is_filtered_and_short_segments_are_nothing_but_zeros(tmp_path):
    x = write_record(tmp_path, leads=("II",)) / 1000.0
    close(prepared(tmp_path / "r", MCMED, "II"), z(band_pass(x[0], 500)))
    write_record(tmp_path, "s", leads=("II",), x=np.ones((1, 4999), "<i2"))
    assert not prepared(tmp_path / "s", MCMED, "II").any()


def test_aurora_crops_at_random_and_pads_before_scaling(tmp_path):
    rng = np.random.default_rng(2)
    ekg = rng.normal(0, 0.3, 15_000)
    ekg[rng.integers(15_000, size=500)] = np.nan
    path = tmp_path / "a.tsv"
    pd.DataFrame({"t": np.arange(15_000) / 500, "ekg": ekg}).to_csv(path, sep="\t", index=False)
    known = ekg[np.isfinite(ekg)]
    # Mean and standard deviation of the crop from each place on.
    sums = [np.cumsum(np.append(0, known**power)) for power in (1, 2)]
    mean, square = ((total[5000:] - total[:-5000]) / 5000 for total in sums)
    scaled = (known[: len(mean)] - mean) / np.sqrt(square - mean**2)
    starts = set()
    for example in "abcdefgh":
        found = prepared(path, AURORA, "ekg", example=example, fs=500)
        np.testing.assert_array_equal(found, prepared(path, AURORA, "ekg", example=example, fs=500))
        at = int(np.argmin(np.abs(scaled - found[0])))
        np.testing.assert_allclose(found, z(known[at : at + 5000]), rtol=0, atol=1e-5)
        starts.add(at)
    assert len(starts) == 8 and max(starts) - min(starts) > 3000
    other = dataclasses.replace(AURORA, seed=1)
    assert (prepared(path, other, "ekg", example="a", fs=500) != found).any()

    short = pd.DataFrame({"t": np.arange(3000) / 500, "ekg": ekg[:3000]})
    short.to_csv(path, sep="\t", index=False)
    known = ekg[:3000][np.isfinite(ekg[:3000])]
    expected = z(np.concatenate([known, np.zeros(5000 - len(known))]))
    close(prepared(path, AURORA, "ekg", fs=500), expected)


def test_zeros_after_scaling_leave_the_scale_alone(tmp_path):
    x = write_record(tmp_path, leads=("II",), x=np.arange(3000, dtype="<i2")[None]) / 1000.0
    after = Preparation(band_hz=None, short="zeros after")
    expected = np.concatenate([z(x[0]), np.zeros(2000)])
    close(prepared(tmp_path / "r", after, "II"), expected)


def test_gaps_are_bridged_by_lines_and_all_missing_is_refused(tmp_path):
    x = np.random.default_rng(3).normal(0, 300, (2, 5000)).astype("<i2")
    x[0, 100:200], x[1] = -32768, -32768
    write_record(tmp_path, x=x, leads=("I", "II"))
    window = Window("e", str(tmp_path / "r"), "I", 0.0, 10.0)
    found, at = native_window(open_recording(tmp_path / "r"), window, Preparation())
    line = np.interp(np.arange(100, 200), [99, 200], x[0, [99, 200]] / 1000.0)
    assert at == 0
    np.testing.assert_allclose(found[0, 100:200], line, rtol=0, atol=1e-12)
    with pytest.raises(PreparationError, match="no sample of lead II is known"):
        prepared(tmp_path / "r", Preparation(), "II")


def test_other_faults_are_told(tmp_path):
    write_record(tmp_path)
    with pytest.raises(RecordingError, match="no lead V9; the recording has I, II"):
        prepared(tmp_path / "r", Preparation(), "V9")
    with pytest.raises(RecordingError, match="the recording has 5000"):
        prepared(tmp_path / "r", Preparation(), "II", start_s=11.0)
    with pytest.raises(PreparationError, match="cannot be band-passed"):
        prepared(tmp_path / "r", Preparation(short="zeros after"), "II", start_s=9.99)
    with pytest.raises(PreparationError, match="resampling is 'cubic'; expected polyphase or fou"):
        Preparation(resampling="cubic")


def test_every_field_changes_the_hash():
    changed = {
        "fs": 250.0, "samples": 2500, "window": "random", "seed": 1, "minmax_record": True,
        "missing": "drop", "short": "all zeros", "scale": "none", "band_first": True,
        "assumed_fs": 100.0, "resampling": "fourier", "band_hz": None,
    }  # fmt: skip
    assert changed.keys() == {field.name for field in dataclasses.fields(Preparation)}
    hashes = {Preparation(**{name: value}).hash for name, value in changed.items()}
    assert len(hashes | {Preparation().hash}) == 13
    assert Preparation().hash == Preparation().hash
    assert Scale(0.0, 1.0).sd == 1.0
