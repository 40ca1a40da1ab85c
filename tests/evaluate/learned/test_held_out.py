"""Who is held out of a report, when shards or tables have changed since the run."""

import pathlib

import numpy as np
import pandas as pd
import pytest

from clef_jax.checkpoints.meta import read_meta
from clef_jax.data.annotations.splits import split_by_hash
from clef_jax.data.shards.store import ShardSet
from clef_jax.evaluate.learned.held_out import annotate_as_run
from clef_jax.evaluate.learned.recordings import ReportError
from clef_jax.tables.columns import TableError
from tests.shard_records import ecg, write, write_record

RELEASE_0_1_0 = pathlib.Path(__file__).parents[2] / "fixtures" / "release_0_1_0"
OTHERS_HELD_OUT = "out: other patients are held out now.*--validation_fraction.*write_shards"


@pytest.fixture
def records(tmp_path):
    for seed in range(12):
        write_record(tmp_path / f"in/r{seed}", ecg(seed), comments=[f"Patient: p{seed}"])
    return tmp_path / "in"


@pytest.fixture
def out(records, tmp_path):
    write(records, tmp_path / "out", validation_fraction=0.2)
    return tmp_path / "out"


def meta_of_a_run(shards, annotations="", validation_fraction=None):
    """What a run of now keeps of its shards and annotations."""
    config = {"annotations": annotations, "validation_fraction": validation_fraction}
    known = annotate_as_run(shards, {"config": config})
    fingerprints = known.fingerprints(["risk"])
    return {"config": config, "shards": shards.fingerprint, "annotations": fingerprints}


def held_out(shards, meta, **now):
    return annotate_as_run(shards, meta, **now).is_validation.tolist()


def split(shards, fraction):
    return split_by_hash(shards.patient, fraction).tolist()


def test_another_split_than_the_run_s_is_refused(records, out):
    shards = ShardSet(out)
    meta = meta_of_a_run(shards)
    assert held_out(shards, meta) == split(shards, 0.2)

    write(records, out, validation_fraction=0.6)
    shards = ShardSet(out)
    assert shards.fingerprint == meta["shards"] and split(shards, 0.6) != split(shards, 0.2)
    with pytest.raises(ReportError, match=OTHERS_HELD_OUT):
        annotate_as_run(shards, meta)
    assert held_out(shards, meta, validation_fraction=0.2) == split(shards, 0.2)

    of_its_own = meta_of_a_run(shards, validation_fraction=0.4)
    assert held_out(shards, of_its_own) == split(shards, 0.4)
    with pytest.raises(ReportError, match=OTHERS_HELD_OUT):
        annotate_as_run(shards, of_its_own, validation_fraction=0.6)


def test_tables_may_move_but_not_split_otherwise(out, tmp_path):
    shards = ShardSet(out)
    words = np.where(np.arange(12) % 3 == 0, "validation", "train")
    table = pd.DataFrame({"patient": [f"p{i}" for i in range(12)], "split": words})
    table.to_csv(tmp_path / "split.csv", index=False)
    meta = meta_of_a_run(shards, annotations=str(tmp_path / "split.csv"))
    expected = held_out(shards, meta)
    assert sum(expected) == 4

    (tmp_path / "split.csv").rename(tmp_path / "moved.csv")
    with pytest.raises(ReportError) as error:
        annotate_as_run(shards, meta)
    for part in (f"{tmp_path}/split.csv: no such file", "config.annotations=", "--annotations"):
        assert part in str(error.value)
    moved = str(tmp_path / "moved.csv")
    assert held_out(shards, meta, tables=moved) == expected
    with pytest.raises(ReportError, match=OTHERS_HELD_OUT):
        annotate_as_run(shards, meta, tables="")
    with pytest.raises(TableError, match="nowhere.csv: no such file"):
        annotate_as_run(shards, meta, tables="nowhere.csv")
    table["split"] = words[::-1]
    table.to_csv(moved, index=False)
    with pytest.raises(ReportError, match=OTHERS_HELD_OUT):
        annotate_as_run(shards, meta, tables=moved)


def test_of_other_shards_nothing_tells_whom_the_run_knows(out, caplog):
    shards = ShardSet(out)
    meta = meta_of_a_run(shards, validation_fraction=0.4)
    with caplog.at_level("WARNING", logger="absl"):
        assert held_out(shards, meta) == split(shards, 0.4)
        assert held_out(shards, {}) == split(shards, 0.2)  # A converted encoder.
        assert not caplog.records
        assert held_out(shards, meta | {"shards": "others"}) == split(shards, 0.4)
    (record,) = caplog.records
    assert f"{out}: not the shards that the encoder was trained on" in record.getMessage()


def test_a_run_of_before_annotations_held_out_what_its_shards_do():
    shards = ShardSet(RELEASE_0_1_0 / "shards")
    meta = read_meta(RELEASE_0_1_0 / "run/checkpoints/4")
    assert held_out(shards, meta) == shards.annotations.is_validation.tolist()
    with pytest.raises(ReportError, match="shards: other patients are held out now"):
        annotate_as_run(shards, meta, validation_fraction=0.9)
