"""Probes piece by piece: what is found, what is not; kills and other labels cost little."""

import dataclasses
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from clef_jax.checkpoints.encoder import save_encoder
from clef_jax.data.signals.spec import ECGFOUNDER
from clef_jax.evaluate.asking.encoders import contestants
from clef_jax.evaluate.asking.results import read_tables
from clef_jax.evaluate.asking.sources import EncoderLeadsError, sources_of
from clef_jax.evaluate.tasks.examples import Examples
from clef_jax.evaluate.windows.preparation import Preparation
from clef_jax.inference import Encoder, encoder_meta
from clef_jax.models import build_model
from tests.embed_runs import TINY
from tests.evaluate.asking.probe_killed import probe
from tests.evaluate.cohorts import info, planted, question, write_cohort
from tests.parameters import drawn
from tests.waiting import wait_for

ROOT = pathlib.Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Folder of 80 patients, and their table."""
    folder = tmp_path_factory.mktemp("cohort")
    table = write_cohort(folder, patients=80)
    table.to_parquet(folder / "cohort.parquet")
    return folder, table


@pytest.fixture(scope="module")
def found(cohort, weights, tmp_path_factory):
    """Where results of planted labels lie, and the paths of their parts."""
    folder, table = cohort
    out = tmp_path_factory.mktemp("out")
    return out, probe(weights, out, question(planted(folder, table)), seeds=2)


def auroc(predictions, **chosen):
    rows = predictions[(predictions["split"] == "test") & (predictions["fraction"] == 1.0)]
    for name, value in chosen.items():
        rows = rows[rows[name] == value]
    return roc_auc_score(rows["target"], rows["score"])


def test_a_planted_signal_is_found(found):
    predictions = read_tables(found[1])
    assert auroc(predictions, model="tiny", seed=0) > 0.85
    assert auroc(predictions, model="plain measurements") > 0.85
    assert auroc(predictions, model="prevalence") == 0.5
    # The label has nothing to do with the rate: half of the probability lies within 0.2 of 0.5.
    assert abs(auroc(predictions, model="heart rate") - 0.5) < 0.4
    slots = predictions.groupby(["mode", "model", "seed", "fraction"]).size()
    assert len(slots) == 2 * (3 + 3) and (slots == 32).all()
    prevalence = predictions[predictions["model"] == "prevalence"]["score"]
    assert prevalence.nunique() == 2  # One of each fraction.


def test_permuted_labels_are_not_found_and_cost_no_encoder_pass(cohort, weights, found):
    """The first time everything is embedded; for other labels of the same windows nothing is."""
    folder, table = cohort
    out, _ = found
    features = {path: path.stat().st_mtime_ns for path in (out / "features").rglob("*.parquet")}
    assert len(features) == 4  # Three encoders, and what is measured.
    about = info(name="permuted")
    made = probe(weights, out, question(planted(folder, table, permuted=True), about))
    again = {path: path.stat().st_mtime_ns for path in (out / "features").rglob("*.parquet")}
    assert again == features
    predictions = read_tables(made)
    predictions = predictions[predictions["task"] == "permuted"]
    # 16 tested: the standard deviation under chance is about 0.15.
    for model in ("tiny", "plain measurements", "heart rate"):
        assert auroc(predictions, model=model) < 0.9


def stages(out):
    return {
        "embeddings come in": lambda: len(list(out.glob("features/*/part-*.parquet"))) > 2,
        "one probe follows another": lambda: len(list(out.glob("parts/*.parquet"))) > 2,
    }


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["embeddings come in", "one probe follows another"])
def test_a_killed_run_goes_on_and_ends_like_an_undisturbed_one(
    cohort, weights, found, tmp_path, stage
):
    folder, table = cohort
    whole, undisturbed = found
    arguments = [folder, weights, tmp_path]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.evaluate.asking.probe_killed", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(stages(tmp_path)[stage], meanwhile=lambda: process.poll() is None)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    finally:
        process.kill()
        process.wait()
    left = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    assert len(left) > 2 and len(list((tmp_path / "parts").glob("*.parquet"))) < 12
    probe(weights, tmp_path, question(planted(folder, table)), seeds=2)
    # What there was, is whole, and was not made again.
    assert left.items() <= {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.parquet")}.items()
    names = {path.name for path in (whole / "parts").iterdir() if path in undisturbed}
    parts = [tmp_path / "parts" / name for name in sorted(names)]
    assert {path for path in (tmp_path / "parts").iterdir()} == set(parts)
    actual, expected = read_tables(parts), read_tables(sorted(undisturbed))
    # Rows share a batch with others than they would have; sums are in another order.
    np.testing.assert_allclose(actual["score"], expected["score"], rtol=0, atol=1e-4)
    pd.testing.assert_frame_equal(actual.drop(columns="score"), expected.drop(columns="score"))


def test_examples_unread_are_left_out_and_read_once_they_are_mended(cohort, weights, tmp_path):
    folder, table = cohort
    table = table[:25].copy()
    table.loc[4, "file"] = "late"  # One of the tested.
    for suffix in (".hea", ".dat"):
        (folder / f"late{suffix}").unlink(missing_ok=True)
    asked, out = question(planted(folder, table)), tmp_path / "out"

    def tested():
        rows = read_tables(probe(weights, out, asked))
        return rows[rows["split"] == "test"].groupby("model").size().to_dict()

    read = ("tiny", "random clef_small", "heart rate", "plain measurements")
    assert tested() == {"prevalence": 10, **dict.fromkeys(read, 8)}
    (folder / "late.hea").write_text((folder / "p004_0.hea").read_text().replace("p004_0", "late"))
    (folder / "late.dat").write_bytes((folder / "p004_0.dat").read_bytes())
    assert tested() == dict.fromkeys(("prevalence", *read), 10)


@pytest.mark.slow
def test_several_classes_unknown_labels_episodes_and_people(cohort, weights, tmp_path):
    folder, table = cohort
    rng = np.random.default_rng(0)
    table = table.drop(columns="t_mv").assign(
        **{"class": np.digitize(table["t_mv"], [-0.35, 0.35]).astype(float)},
        episode=table["patient"],
        age=rng.uniform(20, 90, len(table)),
        sex=rng.choice(["male", "female"], len(table)),
    )
    # Every record twice, seen from another place on.
    second = table.assign(example=table["example"] + "@1", start_s=1.0, window_s=9.0)
    first = table.assign(window_s=9.0)
    both = pd.concat([first, second], ignore_index=True)
    both.loc[both["patient"] == "p004", "class"] = np.nan
    asked = question(
        Examples(both, str(folder), ("class",)), info("multiclass", ("low", "mid", "high"))
    )
    rows = read_tables(probe(weights, tmp_path / "out", asked, seeds=0))
    rows = rows[(rows["model"] == "tiny") & (rows["fraction"] == 1.0)]
    assert len(rows) == 3 * 32 and not rows[["example", "label"]].duplicated().any()
    assert set(rows["label"]) == {"low", "mid", "high"}
    np.testing.assert_allclose(rows.groupby("example")["score"].sum(), 1)
    assert rows[rows["patient"] == "p004"]["target"].isna().all()
    known = rows.dropna(subset="target").groupby("example")["target"].sum()
    assert len(known) == 31 and (known == 1).all()
    people = both.drop_duplicates("patient").set_index("patient").loc[rows["patient"]]
    np.testing.assert_array_equal(rows["age"], people["age"])
    assert rows["sex"].tolist() == people["sex"].tolist() and rows["site"].isna().all()


def test_encoders_of_several_leads_are_refused_where_there_is_one(cohort, tmp_path):
    folder, table = cohort
    config = dataclasses.replace(TINY, in_channels=12)
    x = np.zeros((1, 500, 12), np.float32)
    params = drawn(build_model(config), x)
    meta = encoder_meta(config, params, {}, ECGFOUNDER)
    save_encoder(tmp_path / "w", Encoder(config, params).params, meta)
    encoders = contestants([str(tmp_path / "w")], seeds=1)
    assert encoders[0].name == "w (12 leads)"
    examples = planted(folder, table)
    with pytest.raises(EncoderLeadsError, match=r"sees 12 leads at once: .*the recording has II"):
        sources_of(question(examples), encoders, tmp_path, 0)
    prepared = question(examples, preset="reference", preparation=Preparation())
    with pytest.raises(EncoderLeadsError, match="preset reference prepares one; choose weights"):
        sources_of(prepared, encoders, tmp_path, 0)
