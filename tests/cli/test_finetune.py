"""The commands `clef-jax finetune` and `clef-jax predict`, one after the other, on files."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from clef_jax.checkpoints.encoder import save_encoder
from clef_jax.cli import main as cli
from clef_jax.data.signals.spec import CLEF_V2
from clef_jax.evaluate.finetune import load_head
from clef_jax.inference import encoder_meta
from tests.evaluate.finetune.cohort import TINY, tiny_encoder
from tests.wfdb_records import write_record

RECORDS, FS = 100, 100
# All weights at one high rate, in few steps.
QUICKLY = ("--mode", "scratch", "--learning_rate", "0.01", "--epochs", "12", "--batch_size", "16")


def run(*arguments):
    return cli.main([*map(str, arguments), "--workers", "0"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An encoder, and recordings of which half have wide beats; one of them is damaged."""
    folder = tmp_path_factory.mktemp("cohort")
    params = tiny_encoder().params
    save_encoder(folder / "weights", params, encoder_meta(TINY, params, {}, CLEF_V2))
    rng, t = np.random.default_rng(0), np.arange(10 * FS)
    wide = rng.integers(0, 2, RECORDS)
    for number, is_wide in enumerate(wide):
        phase = (t + rng.integers(0, 80)) % 80 - 40
        beats = np.exp(-0.5 * (phase / (7 if is_wide else 2)) ** 2) + rng.normal(0, 0.05, t.size)
        write_record(folder, f"r{number}", leads=("II",), fs=FS, x=(1000 * beats)[None])
    (folder / "r7.dat").write_bytes(b"")
    files = [f"r{number}" for number in range(RECORDS)]
    pd.DataFrame({"file": files, "wide": wide}).to_csv(folder / "labels.csv", index=False)
    return folder


@pytest.mark.slow
def test_a_table_becomes_a_head_that_predicts_files(folder, tmp_path, capsys):
    head, out = tmp_path / "head", tmp_path / "p.parquet"
    command = ("finetune", "--table", folder / "labels.csv", "--weights", folder / "weights")
    assert run(*command, "--lead", "II", "--out", head, *QUICKLY) == 3
    printed = capsys.readouterr()
    assert "validation/auroc: " in printed.out and "left out: " in printed.err
    assert "r7" in printed.err
    loaded = load_head(head)
    assert (loaded.targets.classes, loaded.lead, len(loaded.temperature)) == (("wide",), "II", 1)
    assert run("predict", folder, "--weights", head, "--out", out) == 3
    frame = pq.read_table(out).to_pandas()
    truth = pd.read_csv(folder / "labels.csv").set_index("file").wide
    assert len(frame) == RECORDS - 1 and set(frame.label) == {"wide"}
    target = truth[frame.record].to_numpy()
    assert roc_auc_score(target, frame.score) > 0.9
    assert np.mean(frame.positive.to_numpy(bool) == target) > 0.8


@pytest.mark.slow
def test_a_table_whose_validation_has_one_class_is_chosen_by_the_loss(folder, tmp_path, capsys):
    table = pd.read_csv(folder / "labels.csv").drop(index=7)
    held_out = table.index[table.wide == 1][:10]
    table["split"] = np.where(table.index % 2, "train", "test")
    table.loc[held_out, "split"] = "validation"
    table.to_csv(folder / "one.csv", index=False)
    command = ("finetune", "--table", folder / "one.csv", "--weights", folder / "weights")
    assert run(*command, "--lead", "II", "--out", tmp_path / "head", *QUICKLY) == 0
    assert "validation/loss: " in capsys.readouterr().out


def test_what_is_wrong_is_told_before_anything_is_read(folder, tmp_path, capsys):
    command = ("finetune", "--table", folder / "labels.csv", "--weights", folder / "weights")
    assert run(*command, "--out", tmp_path / "head", "--label", "wyde") == 1
    assert "wide" in capsys.readouterr().err
    assert not list(tmp_path.glob("[!.]*"))
    assert run(*command, "--out", tmp_path) == 1
    assert "which exists; choose another" in capsys.readouterr().err
