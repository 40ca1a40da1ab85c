"""The command `clef-jax predict`: scores of files, by the path that embeds them."""

import dataclasses
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from clef_jax.cli import main as cli
from clef_jax.evaluate.finetune import FinetuneError, load_head, predict_to_table
from clef_jax.evaluate.finetune.saved import TrainedHead, save_head
from clef_jax.evaluate.finetune.targets import Targets
from clef_jax.models import EncoderWithHead
from tests.embed_runs import errors, write_wfdb
from tests.evaluate.finetune.cohort import TINY, tiny_encoder


def head_of(targets, outputs, **fields):
    """A head of random weights upon lead II."""
    encoder = tiny_encoder()
    rng = np.random.default_rng(0)
    output = {
        "kernel": rng.normal(size=(16, outputs)).astype(np.float32),
        "bias": rng.normal(size=outputs).astype(np.float32),
    }
    return TrainedHead(
        encoder=encoder,
        model=EncoderWithHead(TINY, outputs=outputs),
        params={"encoder": encoder.params, "head": {"output": output}},
        targets=targets,
        lead="II",
        preparation=None,
        thresholds=(),
        temperature=(),
        run={"task": "made up"},
        **fields,
    )


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    write_wfdb(folder, "a", seconds=3)
    write_wfdb(folder, "b", seconds=1, seed=1)
    write_wfdb(folder, "c", seconds=1, leads=("V1",))
    return folder


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """A saved head of two labels, one of which has a threshold."""
    head = head_of(Targets("multilabel", ("AF", "quality")), 2)
    head = dataclasses.replace(head, thresholds=(0.4, float("nan")), temperature=(2.0, 2.0))
    folder = tmp_path_factory.mktemp("head") / "af"
    save_head(folder, head)
    return folder


def predict(*arguments):
    return cli.main(["predict", *map(str, arguments), "--workers", "0"])


def test_every_window_has_a_row_for_each_label(recordings, labelled, tmp_path, capsys):
    out = tmp_path / "p.parquet"
    assert predict(recordings, "--weights", labelled, "--out", out) == 3
    assert "2 predicted (4 rows: 4 ok)" in capsys.readouterr().out
    assert "no lead II" in errors(out)["c"]
    frame = pq.read_table(out).to_pandas()
    assert list(frame) == [
        "file", "record", "lead", "start_s", "fs", "quality", "label", "score", "positive"
    ]  # fmt: skip
    assert frame.record.tolist() == ["a"] * 6 + ["b"] * 2 and set(frame.lead) == {"II"}
    assert frame.label.tolist() == ["AF", "quality"] * 4
    assert frame.start_s.tolist() == [0, 0, 1, 1, 2, 2, 0, 0]
    # Of the embeddings of the same files, by numpy.
    head = load_head(labelled)
    embedded = [tiny_encoder().embed_recording(recordings / name, "II").embedding for name in "ab"]
    output = head.params["head"]["output"]
    logits = np.concatenate(embedded) @ output["kernel"] + output["bias"]
    expected = 1 / (1 + np.exp(-logits.astype(float) / 2))
    np.testing.assert_allclose(frame.score, expected.reshape(-1), rtol=1e-5)
    assert frame.positive[::2].tolist() == (expected[:, 0] >= 0.4).tolist()
    assert frame.positive[1::2].isna().all()
    about = json.loads(pq.read_schema(out).metadata[b"clef_jax"])
    assert about["head"]["thresholds"] == [0.4, None] and about["model"] == TINY.name


def test_what_is_predicted_is_skipped_and_another_head_refused(
    recordings, labelled, tmp_path, capsys
):
    out = tmp_path / "p.parquet"
    assert predict(recordings / "a", "--weights", labelled, "--out", out) == 0
    assert predict(recordings / "a", recordings / "b", "--weights", labelled, "--out", out) == 0
    assert "1 predicted (1 rows: 1 ok), 1 skipped" in capsys.readouterr().out
    other = tmp_path / "other"
    save_head(other, dataclasses.replace(load_head(labelled), temperature=(3.0, 2.0)))
    before = out.read_bytes()
    assert predict(recordings, "--weights", other, "--out", out) == 1
    assert "temperature: [2.0, 2.0] there, [3.0, 2.0] now" in capsys.readouterr().err
    assert cli.main(["embed", str(recordings), "--weights", str(labelled), "--out", str(out)]) == 1
    assert out.read_bytes() == before


def test_values_and_classes(recordings, tmp_path):
    age = head_of(Targets("regression", ("age",), "years", mean=(60.0,), sd=(10.0,)), 1)
    rhythm = head_of(Targets("multiclass", ("N", "AF", "AFL")), 3)
    found = {}
    for name, head in (("age", age), ("rhythm", rhythm)):
        save_head(tmp_path / name, head)
        out = tmp_path / f"{name}.parquet"
        assert predict(recordings / "a", "--weights", tmp_path / name, "--out", out) == 0
        found[name] = pq.read_table(out).to_pandas()
    embedding = tiny_encoder().embed_recording(recordings / "a", "II").embedding
    output = age.params["head"]["output"]
    expected = 60 + 10 * (embedding @ output["kernel"] + output["bias"])[:, 0]
    np.testing.assert_allclose(found["age"].score, expected, rtol=1e-5)
    assert found["age"].positive.isna().all()
    probability = found["rhythm"].score.to_numpy().reshape(-1, 3)
    np.testing.assert_allclose(probability.sum(1), 1)
    positive = found["rhythm"].positive.to_numpy(bool).reshape(-1, 3)
    assert (positive.argmax(1) == probability.argmax(1)).all() and (positive.sum(1) == 1).all()


def test_heads_that_cannot_predict_here_are_refused(labelled, weights, tmp_path, capsys):
    out = tmp_path / "p.parquet"
    assert predict("absent", "--weights", weights, "--out", out) == 1
    assert "holds no head, which is what predicts" in capsys.readouterr().err
    elsewhere = dataclasses.replace(load_head(labelled), preparation={"assumed_fs": 100.0})
    with pytest.raises(FinetuneError, match="assumed_fs.*train a head on the clean preset"):
        predict_to_table(elsewhere, ["absent"], out)
    assert not out.exists()
