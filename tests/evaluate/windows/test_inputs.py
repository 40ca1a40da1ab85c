"""Reading processes: the encoder's own way as `clef-jax embed` does it, and what is unread."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from clef_jax.data.recordings.recording import Hints
from clef_jax.data.signals.spec import CLEF_V2, ECGFOUNDER
from clef_jax.evaluate.features.baselines import HEART_RATE
from clef_jax.evaluate.features.compute import embedding, stored_features, windows_of
from clef_jax.evaluate.tasks.examples import Examples
from clef_jax.evaluate.windows.inputs import (
    Measured,
    OwnPreprocessing,
    Prepared,
    Unread,
    UnusableSignal,
    read_inputs,
    train_scale,
)
from clef_jax.evaluate.windows.preparation import Preparation, Window
from clef_jax.inference import load_encoder
from tests.embed_runs import embed, write_wfdb
from tests.evaluate.cohorts import write_cohort
from tests.wfdb_records import write_record


def window(path, lead="II", start_s=0.0, window_s=10.0):
    return Window(path.name, str(path), lead, start_s, window_s)


def read(windows, reading, workers=0, hints=Hints()):  # noqa: B008
    return list(read_inputs(windows, reading, hints=hints, workers=workers))


def test_clean_embeds_as_the_command_does(weights, tmp_path, real_data):
    """Records of 500 and 250 Hz, a later window, one too short, and one whose lead is flat."""
    data = tmp_path / "data"
    write_wfdb(data, "long", seconds=30)
    write_wfdb(data, "short", seconds=6)
    flat = np.zeros((12, 5000), "<i2")
    write_record(data, "flat", x=flat)
    real = sorted((real_data / "ptb-xl/records500/00000").glob("*.hea"))[:3]
    out = tmp_path / "e.parquet"
    arguments = ["--weights", weights, "--out", out, "--lead", "II", "--pad"]
    assert embed(data, *real, *arguments) == 0
    expected = pq.read_table(out).to_pandas().set_index(["record", "start_s"])["embedding"]
    names = [("long", 0.0), ("long", 20.0), ("short", 0.0), ("flat", 0.0)]
    table = pd.DataFrame(
        {
            "example": [*(f"{name}@{start}" for name, start in names), *(f.stem for f in real)],
            "file": [*(str(data / name) for name, _ in names), *map(str, real)],
            "start_s": [*(start for _, start in names), 0.0, 0.0, 0.0],
            "patient": "p", "split": "train", "lead": "II", "window_s": 10.0, "label": 1.0,
        }
    )  # fmt: skip
    encoder = load_encoder(weights)
    found = stored_features(
        windows_of(Examples(table, "/", ("label",))),
        OwnPreprocessing(encoder.preprocessing),
        embedding(encoder.forward),
        tmp_path / "features",
        {},
        hints=Hints(),
        workers=0,
        title="",
    )
    for row, key in zip(found.values, [*names, *((f.stem, 0.0) for f in real)], strict=True):
        np.testing.assert_allclose(row, expected[key], rtol=0, atol=1e-6)
    assert np.isnan(found.values[3]).all() and np.isfinite(np.delete(found.values, 3, 0)).all()
    (unread,) = found.unread
    assert unread.example == "flat@0.0" and unread.readable and "II is flat" in unread.error


def test_processes_read_the_same_in_order_and_name_what_they_cannot_read(tmp_path):
    table = write_cohort(tmp_path, patients=20)
    windows = [window(tmp_path / name) for name in table["file"]]
    (tmp_path / "broken.hea").write_text("broken 1 500 5000\nbroken.dat 16\n")
    windows[7:7] = [window(tmp_path / "absent"), window(tmp_path / "broken")]
    windows += [window(tmp_path / "p000_0", lead="V1"), window(tmp_path / "p001_0", start_s=12.0)]
    here = read(windows, OwnPreprocessing(CLEF_V2))
    there = read(windows, OwnPreprocessing(CLEF_V2), workers=2)
    assert len(here) == len(there) == 24
    for a, b in zip(here, there, strict=True):
        if isinstance(a, Unread):
            assert a == b
        else:
            np.testing.assert_array_equal(a, b)
    unread = {i: one.error for i, one in enumerate(here) if isinstance(one, Unread)}
    assert unread.keys() == {7, 8, 22, 23}
    assert "no lead V1; the recording has II" in unread[22] and "shorter than" in unread[23]
    assert not any(here[i].readable for i in unread)


def test_the_scale_of_training_examples_is_that_of_all_their_samples(tmp_path):
    rng = np.random.default_rng(0)
    xs = [rng.normal(40 * i, 100 + i, (1, 5000)).astype("<i2") for i in range(5)]
    for i, x in enumerate(xs):
        write_record(tmp_path, f"r{i}", leads=("II",), x=x)
    preparation = Preparation(scale="train", band_hz=None)
    windows = [window(tmp_path / f"r{i}") for i in range(5)] + [window(tmp_path / "absent")]
    scale = train_scale(windows, preparation, hints=Hints(), workers=0)
    every = np.concatenate(xs, axis=1) / 1000
    np.testing.assert_allclose(scale, (every.mean(), every.std()), rtol=1e-12)
    (x,) = read(windows[:1], Prepared(preparation, scale, "t"))
    np.testing.assert_allclose(x[:, 0], (xs[0][0] / 1000 - scale.mean) / scale.sd, atol=1e-5)
    for nothing in (windows[-1:], []):
        with pytest.raises(UnusableSignal, match="no signal in any of them"):
            train_scale(nothing, preparation, hints=Hints(), workers=0)


def test_an_encoder_of_several_leads_sees_them_all(tmp_path):
    x = write_record(tmp_path) / 1000.0
    (found,) = read([window(tmp_path / "r", lead="II")], OwnPreprocessing(ECGFOUNDER, 12))
    np.testing.assert_allclose(found, ((x - x.mean()) / x.std()).T, rtol=0, atol=1e-5)


def test_measurements_find_the_rate_and_give_nothing_of_noise(tmp_path):
    write_wfdb(tmp_path, "beats", seconds=10)
    flat = np.zeros((2, 2500), "<i2")
    write_record(tmp_path, "flat", leads=("I", "II"), fs=250, x=flat)
    write_record(tmp_path, "brief", leads=("I", "II"), fs=250, x=flat[:, :20])
    beats, *others = read([window(tmp_path / n) for n in ("beats", "flat", "brief")], Measured())
    assert abs(beats[HEART_RATE] - 75) < 0.5
    assert all(np.isnan(one[HEART_RATE]) for one in others)


def test_files_without_a_rate_need_the_hint(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.sin(np.arange(2500) / 10))
    (unread,) = read([window(path, lead="")], OwnPreprocessing(CLEF_V2))
    assert "sampling rate" in unread.error
    (x,) = read([window(path, lead="")], OwnPreprocessing(CLEF_V2), hints=Hints(fs=250.0))
    assert x.shape == (5000, 1)
