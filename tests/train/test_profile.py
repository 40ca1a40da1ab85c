"""A trace of a run's steps."""

import jax
import pytest

from clef_jax.train.pretrain import pretrain
from tests.train.runs import assert_same_result, config_of


@pytest.mark.slow
def test_a_profiled_run_writes_a_trace_and_computes_the_same(shards_folder, tmp_path, tiny):
    for name, steps in {"plain": 0, "profiled": 2}.items():
        config = config_of(profile_steps=steps)
        pretrain(config, str(shards_folder), str(tmp_path / name))
    assert not (tmp_path / "plain" / "profile").exists()
    (trace,) = (tmp_path / "profiled" / "profile").rglob("*.xplane.pb")
    events = [
        dict(event.stats)["step_num"]
        for plane in jax.profiler.ProfileData.from_file(str(trace)).planes
        for line in plane.lines
        for event in line.events
        if event.name == "train"
    ]
    assert events == [11, 12]
    assert_same_result(tmp_path / "profiled", tmp_path / "plain")
