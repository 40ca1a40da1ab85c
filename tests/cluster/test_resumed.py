"""A run of two hosts of which one is killed, and that goes on to the result of one that was not."""

import pytest

from tests.train.runs import (
    assert_same_result,
    finish,
    rows_without_rates,
    start_two_processes,
    wait_for,
)
from tests.waiting import children_of

SETTINGS = {
    "steps": 400,
    "log_steps": 1,
    "checkpoint_steps": 2,
    **{f"evaluators__{name}": -1 for name in ("validation", "probe", "map")},
}


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_host_dies_the_other_says_so_and_the_same_command_resumes(
    shards_folder, tmp_path, killed
):
    workdir = tmp_path / "run"
    processes = start_two_processes(shards_folder, workdir, **SETTINGS)
    wait_for(lambda: (workdir / "checkpoints" / "4").exists(), processes[0])
    trains = max(children_of(processes[killed]), key=lambda child: child.memory_info().rss)
    trains.kill()
    output = processes[1 - killed].communicate(timeout=60)[0]
    assert processes[1 - killed].returncode == 1
    said = [line for line in output.splitlines() if line.startswith("pretrain: ")]
    assert len(said) == 1 and f"lost process {killed} of 2, so process {1 - killed}" in said[0]
    assert "resumes the run from its last checkpoint" in said[0]
    assert "Traceback" not in output and "stack trace" not in output
    assert processes[killed].communicate()[0].count("SIGKILL ended process") == 1
    rows = rows_without_rates(workdir)
    steps = rows[-1]["step"] + 4
    finish(*start_two_processes(shards_folder, workdir, **SETTINGS | {"steps": steps}))
    whole = tmp_path / "whole"
    finish(*start_two_processes(shards_folder, whole, **SETTINGS | {"steps": steps}))
    assert_same_result(workdir, whole, step=steps)
