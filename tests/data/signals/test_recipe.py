"""README's own code, run as it stands there, against what is embedded."""

import dataclasses
import pathlib
import re

import numpy as np
import pytest
import torch

from clef_jax.data.recordings import read_recording
from clef_jax.data.signals.preprocessing import preprocess
from clef_jax.data.signals.recipe import recipe
from clef_jax.data.signals.spec import CLEF_V2, ECGFOUNDER
from clef_jax.data.windows.cut import WindowSettings, preprocess_windows
from clef_jax.inference import Encoder
from clef_jax.models import get_config
from tests.oracles.torch_resnext1d import TorchResNeXt1D, jax_params
from tests.shard_records import first_window

README = pathlib.Path(__file__).resolve().parents[3] / "README.md"
# One block of each stage of the small size keeps compilations short.
TINY = dataclasses.replace(get_config("clef_small"), stage_widths=(32, 64), stage_blocks=(1, 1))
REAL = {
    100: ("ptb-xl/records100/00000/00001_lr", "II"),
    200: ("cpsc2021/data_84_1", "II"),
    360: ("mitdb/100", "MLII"),
    500: ("ptb-xl/records500/00000/00001_hr", "aVL"),
    1000: ("ptbdb/patient001/s0010_re", "V3"),
}


def readme_block():
    section = README.read_text().split("## Preprocessing, exactly")[1].split("\n## ")[0]
    (block,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    return block


def function_in(code):
    names = {}
    exec(code, names)
    return names["encoder_input"]


encoder_input = function_in(readme_block())


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return Encoder(TINY, jax_params(TorchResNeXt1D(TINY)))


def strip(fs, seconds, seed=0):
    """Beats of 1 mV on a drifting baseline of several, with the noise of a muscle."""
    t = np.arange(round(seconds * fs)) / fs
    beats = np.exp(-0.5 * (((t % 0.83) - 0.4) / 0.012) ** 2)
    return beats + 4 + np.sin(0.4 * t) + np.random.default_rng(seed).normal(0, 0.02, t.size)


def assert_reproduced(encoder, x, fs, **settings):
    """Every window's embedding is the encoder's, of what README makes of the window's samples."""
    found = encoder.embed_windows(x, fs, **settings)
    starts = [round(start_s * fs) for start_s in found.start_s]
    inputs = np.stack([encoder_input(x[start:], fs) for start in starts]).astype(np.float32)
    expected, _ = encoder.forward(inputs[:, :, None])
    np.testing.assert_allclose(
        found.embedding, expected, rtol=0, atol=1e-5 * np.abs(expected).max()
    )
    return found


def test_readme_prints_the_recipe_of_the_stored_spec():
    assert readme_block() == recipe(CLEF_V2)


@pytest.mark.parametrize(
    "fs", [100, 128, 200, 249.89, 250, 257, 333.33, 360, 499.97, 500, 977.5, 1000, 4000]
)
@pytest.mark.parametrize("event", ["none", "step at the end", "step beyond the end", "gap"])
def test_inputs_are_the_recipes(fs, event):
    x = strip(fs, 12)
    end = 10 * fs
    if event == "step at the end":
        x[round(end) - 1 :] += 5.0
    elif event == "step beyond the end":
        x[round(end) + 2 :] += 5.0
    elif event == "gap":
        x[round(end - 0.2 * fs) : round(end + 0.1 * fs)] = np.nan
        x[: round(0.1 * fs)] = np.nan
    expected = encoder_input(x, fs)
    found = preprocess(np.stack([x, -2 * x]), fs)
    z = (found - found.mean(1, keepdims=True)) / found.std(1, keepdims=True)
    np.testing.assert_allclose(z[0], expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    assert expected.shape == (5000,)


@pytest.mark.parametrize("fs", [100, 200, 249.89, 250, 257, 360, 500, 1000])
def test_embeddings_are_the_recipes(encoder, fs):
    x = strip(fs, 27)
    x[round(19.9 * fs) :] += 3.0
    assert len(assert_reproduced(encoder, x, fs, stride_s=4.3).start_s) == 4


@pytest.mark.parametrize("fs", REAL)
def test_embeddings_of_real_recordings_are_the_recipes(encoder, real_data, fs):
    path, lead = REAL[fs]
    recording = read_recording(real_data / path, leads=[lead], stop=25 * fs)
    assert recording.fs == fs
    x = recording.signal_mv[0]
    assert_reproduced(encoder, x, fs)


def test_a_short_recording_is_padded_as_in_the_recipe(encoder):
    found = assert_reproduced(encoder, strip(360, 7.3), 360, pad=True)
    assert found.quality == ["padded"]


OTHERS = {
    "ECGFounder": ECGFOUNDER,
    "250 Hz": dataclasses.replace(CLEF_V2, fs=250.0, samples=2500),
    "gaps by lines, leads together": dataclasses.replace(
        CLEF_V2, fs=128.0, samples=1280, band_hz=(0.5, 45.0), order=3, normalisation="record"
    ),
    "zeros, leads apart": dataclasses.replace(ECGFOUNDER, normalisation="lead"),
}


@pytest.mark.parametrize("spec", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("fs", [128, 360, 500])
@pytest.mark.parametrize("seconds", [12, 7.3])
def test_every_specs_inputs_are_its_recipes(spec, fs, seconds):
    leads = np.stack([strip(fs, seconds, seed=lead) * (lead + 1) - lead for lead in range(3)])
    leads[1, round(3 * fs) : round(3.2 * fs)] = np.nan
    leads[2, : round(0.1 * fs)] = np.nan
    made = function_in(recipe(spec))
    together = spec.normalisation == "record"
    expected = made(leads, fs) if together else np.stack([made(lead, fs) for lead in leads])
    settings = WindowSettings(spec, ("I", "II", "III"), pad=True, channels=3)
    found = preprocess_windows(leads, fs, [0], ["I", "II", "III"], settings)
    assert found.x.shape == (1, spec.samples, 3) and expected.shape == (3, spec.samples)
    error = np.abs(found.x[0].T - expected).max()
    assert error <= 2e-6 * np.abs(expected).max()
    # One that the encoder sees alone is a record of one lead.
    alone = preprocess_windows(leads, fs, [0], ["I", "II", "III"], WindowSettings(spec, pad=True))
    expected = [made(lead[None], fs)[0] if together else made(lead, fs) for lead in leads]
    error = np.abs(alone.x[:, :, 0] - np.stack(expected)).max()
    assert error <= 2e-6 * np.abs(expected).max()


def test_other_windows_are_other_numbers_in_the_recipe():
    x = strip(257, 12)
    samples = dataclasses.replace(CLEF_V2, samples=2000)
    expected = function_in(recipe(samples))(x, 257)
    found = preprocess_windows(x[None], 257, [0], ["I"], WindowSettings(window_s=4.0))
    np.testing.assert_allclose(found.x[0, :, 0], expected, rtol=0, atol=1e-6 * np.ptp(expected))


@pytest.mark.parametrize("fs", [200, 360, 500])
def test_a_window_is_its_samples_alone(fs):
    x, settings = strip(fs, 40)[None], WindowSettings()
    whole = preprocess_windows(x, fs, np.arange(4) * 10 * fs, ["I"], settings)
    for i, window in enumerate(np.split(x, 4, axis=1)):
        alone = preprocess_windows(window, fs, [0], ["I"], settings)
        np.testing.assert_array_equal(alone.x[0], whole.x[i])
        assert alone.quality[0] == whole.quality[i]


def test_shards_hold_the_recipes_samples(real_data):
    path, lead = REAL[1000]
    prepared = first_window(str(real_data / path))
    steps = prepared.steps[prepared.leads.index(lead)].astype(np.float64)
    x = read_recording(real_data / path, leads=[lead]).signal_mv[0]
    z = (steps - steps.mean()) / steps.std()
    # int16: half a step of 65,534 between the extremes
    np.testing.assert_allclose(z, encoder_input(x, 1000), rtol=0, atol=1.1 * np.ptp(z) / 65_000)
