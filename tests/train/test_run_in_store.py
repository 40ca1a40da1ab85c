"""A run that reads shards from a store, and writes its folder there."""

import contextlib

import numpy as np
import pytest

from clef_jax.checkpoints.encoder import load_params
from clef_jax.stores import at
from clef_jax.train.claim import Claim, WorkdirInUse
from clef_jax.train.metrics import MetricsLog, read_metrics
from clef_jax.train.pretrain import pretrain
from clef_jax.train.settings import ConfigError
from tests.fake_store import URL
from tests.train.runs import (
    assert_same_result,
    config_of,
    finish,
    rates_until,
    rows_without_rates,
    start,
    start_two_processes,
    wait_for,
)


@pytest.mark.slow
def test_a_killed_run_in_a_store_ends_as_one_on_disks(store, finished, shards_folder, tmp_path):
    shards, workdir = store.put_folder(shards_folder, "shards"), f"{URL}/runs/killed"
    killed = start(shards, workdir)

    def is_saving(step=8):
        of_step = [name for name in list(store.content) if f"killed/checkpoints/{step}/" in name]
        return of_step and f"runs/killed/checkpoints/{step}/commit_success.txt" not in of_step

    wait_for(is_saving, killed)
    killed.kill()
    killed.communicate()
    assert is_saving()
    rates = rates_until(store.get_folder("runs/killed", tmp_path / "killed"), 4)
    finish(start(shards, workdir))
    result = store.get_folder("runs/killed", tmp_path / "resumed")
    assert_same_result(result, finished)
    assert rates_until(result, 4) == rates
    files = {path.relative_to(finished).as_posix() for path in finished.iterdir()}
    assert files - {".lock", ".lock.holder"} <= {path.name for path in result.iterdir()}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tensorboard": True}, "config.tensorboard writes to disks alone"),
        ({"profile": "2:4"}, "config.profile writes to disks alone"),
        ({"noise": "gs://ecg/noise"}, "config.noise gs://ecg/noise: is in a store"),
        ({"annotations": "a.csv,gs://ecg/b.csv"}, "gs://ecg/b.csv: is in a store, .* every host"),
    ],
)
def test_what_needs_a_disk_is_refused(store, shards_folder, settings, message):
    with pytest.raises(ConfigError, match=message):
        pretrain(config_of(**settings), shards_folder, f"{URL}/runs/refused")
    assert not [name for name in store.content if name.startswith("runs/refused")]


def test_rows_in_a_store_are_there_once_they_are_flushed_or_closed(store):
    workdir = at(f"{URL}/runs/rows")
    claim = Claim(workdir / ".lock.holder")
    with contextlib.closing(MetricsLog(workdir, step=0, tensorboard=False, claim=claim)) as log:
        for step in (1, 2):
            log.write(step, {"loss": 0.5})
        assert read_metrics(workdir / "metrics.jsonl") == []
        log.flush()
        assert [row["step"] for row in read_metrics(workdir / "metrics.jsonl")] == [1, 2]
        log.write(3, {"loss": 0.25})
    # As after a kill: what followed the state of step 2 is written again.
    with contextlib.closing(MetricsLog(workdir, step=2, tensorboard=False, claim=claim)) as log:
        log.write(3, {"loss": 0.125})
    assert [row["loss"] for row in read_metrics(workdir / "metrics.jsonl")] == [0.5, 0.5, 0.125]


def test_of_two_runs_in_a_store_the_earlier_ends_by_name_and_writes_nothing_more(store):
    workdir = at(f"{URL}/runs/two")
    earlier = Claim(workdir / ".lock.holder")
    log = MetricsLog(workdir, step=0, tensorboard=False, claim=earlier)
    log.write(1, {"loss": 1.0})
    store.put("runs/two/.lock.holder", b"process 7 on another, since noon\n")
    store.put("runs/two/metrics.jsonl", b'{"step": 1, "loss": 2.0}\n')
    with pytest.raises(WorkdirInUse, match="taken it over .process 7 on another, since noon."):
        log.flush()
    with pytest.raises(WorkdirInUse):
        log.close()
    store.remove("runs/two/.lock.holder")
    with pytest.raises(WorkdirInUse, match="which removed .lock.holder"):
        log.flush()
    assert store.content["runs/two/metrics.jsonl"] == b'{"step": 1, "loss": 2.0}\n'


@pytest.mark.slow
def test_two_hosts_share_a_workdir_in_a_store(store, tiny, shards_folder, tmp_path):
    pretrain(config_of(steps=4), shards_folder, tmp_path / "alone")
    shards = store.put_folder(shards_folder, "shards")
    finish(*start_two_processes(shards, f"{URL}/runs/together", steps=4, shard_state=True))
    together = store.get_folder("runs/together", tmp_path / "together")
    rows, rows_alone = (rows_without_rates(workdir) for workdir in (together, tmp_path / "alone"))
    assert [row["step"] for row in rows] == [row["step"] for row in rows_alone] == [2, 4]
    for row, row_alone in zip(rows, rows_alone, strict=True):
        assert row.keys() == row_alone.keys()
        for name in row:
            np.testing.assert_allclose(row[name], row_alone[name], rtol=1e-4, err_msg=name)
    load_params(f"{URL}/runs/together")
