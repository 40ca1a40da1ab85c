"""tools/pretrain.py by itself in two processes, in the environment that a cluster gives them."""

import json

import pytest

from tests.train.runs import finish, free_port, start


def slurm(process):
    return {
        "SLURM_JOB_ID": "7",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": str(process),
        "SLURM_LOCALID": str(process),
    }


def open_mpi(process):
    return {
        "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://127.0.0.1:34911",
        "OMPI_COMM_WORLD_SIZE": "2",
        "OMPI_COMM_WORLD_RANK": str(process),
        "OMPI_COMM_WORLD_LOCAL_RANK": str(process),
    }


@pytest.mark.slow
@pytest.mark.parametrize("cluster", [slurm, open_mpi])
def test_two_tasks_are_one_run_without_a_flag(cluster, shards_folder, tmp_path):
    # Else the port is one of the highest, by the job's number, and others may hold it here.
    port = {"JAX_COORDINATOR_PORT": str(free_port())}
    settings = {f"evaluators__{name}": -1 for name in ("validation", "probe", "map")}
    finish(
        *(
            start(
                shards_folder,
                tmp_path / "run",
                devices=2,
                environment=cluster(n) | port,
                steps=2,
                **settings,
            )
            for n in (0, 1)
        )
    )
    meta = tmp_path / "run" / "checkpoints" / "2" / "meta" / "metadata"
    mesh = json.loads(meta.read_text())["mesh"]
    assert (mesh["devices"], mesh["processes"]) == (4, 2)


@pytest.mark.slow
def test_a_place_that_is_half_known_is_one_line(shards_folder, tmp_path):
    process = start(shards_folder, tmp_path / "run", "--processes=2")
    output = process.communicate()[0]
    assert process.returncode == 1 and not (tmp_path / "run").exists()
    assert output.startswith("pretrain: --coordinator and --process: not given")
    assert output.count("\n") == 1
