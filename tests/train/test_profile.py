"""A trace of a run's steps."""

from clef_jax.train.pretrain import pretrain
from tests.train.runs import assert_same_result, config_of


def test_a_profiled_run_writes_a_trace_and_computes_the_same(shards_folder, tmp_path, tiny):
    for name, steps in {"plain": 0, "profiled": 2}.items():
        config = config_of(profile_steps=steps)
        pretrain(config, str(shards_folder), str(tmp_path / name))
    assert not (tmp_path / "plain" / "profile").exists()
    (trace,) = (tmp_path / "profiled" / "profile").rglob("*.xplane.pb")
    # Both steps are in it, by number.
    found = trace.read_bytes()
    assert b"train" in found and trace.stat().st_size > 10_000
    assert_same_result(tmp_path / "profiled", tmp_path / "plain")
