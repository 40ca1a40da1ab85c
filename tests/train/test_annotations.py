"""Runs on one shard set with other risks and other splits than those it was written with."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest

from clef_jax import hosts
from clef_jax.checkpoints.encoder import load_params
from clef_jax.data.annotations.splits import is_validation_patient
from clef_jax.data.shards.store import ShardSet
from clef_jax.risk.table import compute_risk_table
from clef_jax.tables.files import read_table, write_table
from clef_jax.train.data import choose_data
from clef_jax.train.metrics import read_metrics
from clef_jax.train.pretrain import pretrain
from clef_jax.train.settings import ConfigError, read_settings
from tests.train import runs

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture(scope="module")
def risks(shards_folder, tmp_path_factory):
    """Tables of two regions for the patients of the shards, which hold risks of a third."""
    metadata = read_table(shards_folder.parent / "cohort" / "metadata.csv")
    folder = tmp_path_factory.mktemp("risks")
    for region in ("low", "high"):
        write_table(compute_risk_table(metadata, region=region), folder / f"{region}.csv")
    return folder


def config_of(**values):
    return runs.config_of(**{"steps": 3, "log_steps": 1, "checkpoint_steps": 3} | values)


def losses(workdir):
    rows = read_metrics(workdir / "metrics.jsonl")
    return [row["train/loss"] for row in rows], [row["train/known_risk"] for row in rows]


@pytest.mark.slow
def test_two_risk_regions_train_from_shards_written_once(shards_folder, risks, tmp_path):
    files = {path: path.stat().st_mtime_ns for path in shards_folder.rglob("*")}
    shards = ShardSet(shards_folder)
    found, annotated = {}, {}
    for region in ("low", "high"):
        config = config_of(annotations=str(risks / f"{region}.csv"))
        table = pd.read_csv(risks / f"{region}.csv", dtype={"subject_id": str})
        expected = table.set_index("subject_id")["risk"].loc[shards.patient].to_numpy(np.float32)
        carried = choose_data(
            read_settings(config), shards, None, {"risk"}, hosts.data_mesh()
        ).columns["risk"]
        np.testing.assert_array_equal(carried, expected)
        assert not np.array_equal(carried, shards.annotations.columns["risk"])

        pretrain(config, shards_folder, tmp_path / region)
        _, meta = load_params(tmp_path / region)
        found[region], annotated[region] = losses(tmp_path / region), meta["annotations"]
        assert meta["shards"] == shards.fingerprint
    assert files == {path: path.stat().st_mtime_ns for path in shards_folder.rglob("*")}
    assert found["low"][0] != found["high"][0] and found["low"][1] == found["high"][1]
    assert annotated["low"]["risk"] != annotated["high"]["risk"]
    assert annotated["low"]["split"] == annotated["high"]["split"]

    # The workdir of one region takes no step with another; its table may lie elsewhere.
    high = config_of(annotations=str(risks / "high.csv"), steps=4)
    with pytest.raises(
        ConfigError, match="cannot go on like this: another annotation of risk. Set"
    ):
        pretrain(high, shards_folder, tmp_path / "low")
    moved = shutil.copy(risks / "low.csv", tmp_path / "moved.csv")
    both = config_of(annotations=f"{risks / 'high.csv'}, {moved}", steps=4)
    assert pretrain(both, shards_folder, tmp_path / "low")["step"] == 4


@pytest.mark.slow
def test_the_tables_of_the_shards_named_again_change_nothing(shards_folder, tmp_path):
    again = str(shards_folder.parent / "risk.parquet")
    pretrain(config_of(), shards_folder, tmp_path / "run")
    found = pretrain(config_of(annotations=again, steps=4), shards_folder, tmp_path / "run")
    assert found["step"] == 4


@pytest.mark.slow
def test_another_split_by_an_option_and_by_a_table(shards_folder, tmp_path):
    shards = ShardSet(shards_folder)
    patients = sorted(set(shards.patient))
    held_out = [patient for patient in patients if is_validation_patient(patient, 0.6)]
    assert len(held_out) > len(set(shards.patient[shards.annotations.is_validation]))
    report = pretrain(config_of(validation_fraction=0.6), shards_folder, tmp_path / "run")
    assert report["validation_patients"] == len(held_out)
    assert report["training_patients"] == len(patients) - len(held_out)
    for other in (None, 0.5):
        with pytest.raises(ConfigError, match="cannot go on like this: another split. Set"):
            pretrain(config_of(validation_fraction=other), shards_folder, tmp_path / "run")

    words = ["validation" if patient in held_out else "train" for patient in patients]
    table = pd.DataFrame({"patient": patients, "split": words})
    table.to_parquet(tmp_path / "split.parquet")
    same = config_of(annotations=str(tmp_path / "split.parquet"), steps=4)
    assert pretrain(same, shards_folder, tmp_path / "run")["step"] == 4


def test_a_table_that_does_not_fit_is_said_before_anything_is_written(shards_folder, tmp_path):
    pd.DataFrame({"patient": ["nobody"], "risk": [1.0]}).to_csv(tmp_path / "r.csv", index=False)
    with pytest.raises(ValueError, match=re.escape("r.csv: no row belongs to any of the")):
        pretrain(config_of(annotations=str(tmp_path / "r.csv")), shards_folder, tmp_path / "run")
    with pytest.raises(
        ConfigError, match="config.validation_fraction is 1.0; it must be from 0 to"
    ):
        pretrain(config_of(validation_fraction=1.0), shards_folder, tmp_path / "run")
    assert not (tmp_path / "run").exists()
