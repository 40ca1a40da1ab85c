"""Disks that fail for a moment are asked again, a few times, and then named."""

import errno
import os
import shutil
import sys

import numpy as np
import pytest

from clef_jax.data.recordings import RecordingUnavailable, open_recording, patience, read_recording
from clef_jax.data.shards.format import ShardError
from clef_jax.data.shards.store import ShardSet
from tests.wfdb_records import write_record

pytestmark = pytest.mark.slow
FAILING: dict[str, int] = {}


def _fail(event, arguments):
    if event == "open" and FAILING.get(path := str(arguments[0])):
        FAILING[path] -= 1
        raise OSError(errno.EIO, os.strerror(errno.EIO), path)


sys.addaudithook(_fail)


@pytest.mark.parametrize("suffix", [".hea", ".dat"])
@pytest.mark.parametrize("times", [1, 3, 4])
def test_a_recording(tmp_path, suffix, times):
    x = write_record(tmp_path)
    path = str(tmp_path / f"r{suffix}")
    FAILING[path] = times
    if times <= len(patience.PAUSES_S):
        np.testing.assert_allclose(read_recording(tmp_path / "r").signal_mv, x / 1000)
    else:
        with pytest.raises(RecordingUnavailable, match=rf"r\{suffix}.*cannot be read now \(Input"):
            read_recording(tmp_path / "r")
    assert FAILING[path] == 0


def test_other_formats_name_their_file(tmp_path):
    for name in ("r.csv", "r.npy", "r.edf", "r.mat", "r.dcm"):
        path = tmp_path / name
        path.write_bytes(b"x")
        FAILING[str(path)] = 4
        with pytest.raises(RecordingUnavailable, match=rf"{name}: cannot be read now \(Input"):
            open_recording(path, fs=500)
        assert FAILING[str(path)] == 0


def test_a_shard_that_is_away_for_a_moment(shards_folder, tmp_path, monkeypatch):
    copied = shutil.copytree(shards_folder, tmp_path / "shards")
    shard, away = copied / "leads-00000.array_record", tmp_path / "away"
    expected = ShardSet(shards_folder).read([0], [0])
    shards = ShardSet(copied)
    shard.rename(away)
    pauses = []

    def come_back(seconds):
        pauses.append(seconds)
        if len(pauses) == 2:
            away.rename(shard)

    monkeypatch.setattr(patience.time, "sleep", come_back)
    np.testing.assert_array_equal(shards.read([0], [0]), expected)
    assert pauses == list(patience.PAUSES_S[:2])
    shards = ShardSet(copied)
    shard.rename(away)
    pauses[:] = [0.0] * 2
    with pytest.raises(ShardError, match=r"leads-00000.array_record: cannot be read in several"):
        shards.read([0], [0])
    assert pauses[2:] == list(patience.PAUSES_S)
