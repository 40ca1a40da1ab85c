"""The recipes of docs/clusters.md: read, held against themselves, and their commands started."""

import math
import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest
import yaml

from benchmarks import cluster_costs

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCS = (ROOT / "docs" / "clusters.md").read_text()
SLURM = ROOT / "examples" / "slurm" / "pretrain.sbatch"
GKE = ROOT / "examples" / "gke" / "pretrain.yaml"
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
printf '%s\\n' "$@"
"""


def slurm_command(tmp_path, shards, workdir):
    """Returns what the script has srun start, by running it with another srun."""
    (tmp_path / "srun").write_text(SRUN)
    (tmp_path / "srun").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    environment = {"PATH": path, "SHARDS": shards, "WORKDIR": workdir}
    done = subprocess.run(["bash", SLURM], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def gke_pod():
    manifest = yaml.safe_load(GKE.read_text())
    (replicated,) = manifest["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    return manifest, replicated, job, job["template"]["spec"]


def batch_of(command):
    return int(re.search(r"--config.batch_size=(\d+)", " ".join(command))[1])


def require_started(command, tmp_path):
    """Starts a pretraining's command, which must get as far as looking for its shards."""
    assert command[:2] == ["python", "tools/pretrain.py"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *command[1:]], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr[-2000:]
    assert f"{tmp_path}/shards: no such folder; write shards there" in done.stderr
    assert not (tmp_path / "run").exists()


def test_the_slurm_script_has_a_process_for_each_gpu_and_starts(tmp_path):
    said = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?$", SLURM.read_text(), re.MULTILINE))
    assert said["ntasks-per-node"] == said["gpus-per-node"]
    devices = int(said["nodes"]) * int(said["ntasks-per-node"])
    command = slurm_command(tmp_path, f"{tmp_path}/shards", f"{tmp_path}/run")
    assert batch_of(command) % devices == 0
    require_started(command, tmp_path)


def test_the_slurm_script_asks_for_its_folders(tmp_path):
    done = subprocess.run(["bash", SLURM], env={"PATH": os.environ["PATH"]}, capture_output=True)
    assert done.returncode != 0 and b"SHARDS: folder of shards" in done.stderr


def test_the_jobset_has_a_pod_for_each_host_of_its_slice_and_starts(tmp_path):
    manifest, replicated, job, pod = gke_pod()
    assert (manifest["apiVersion"], manifest["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    (container,) = pod["containers"]
    topology = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
    chips = math.prod(map(int, topology.split("x")))
    hosts = job["completions"] * replicated["replicas"]
    assert job["parallelism"] == job["completions"]
    assert hosts * container["resources"]["limits"]["google.com/tpu"] == chips
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
    command = [*container["command"], *container["args"]]
    assert batch_of(command) % (64 * chips) == 0
    command = [word.replace("/data/shards", f"{tmp_path}/shards") for word in command]
    command = [word.replace("/data/runs/medium", f"{tmp_path}/run") for word in command]
    require_started(command, tmp_path)


def test_the_tools_have_the_flags_of_all_commands():
    blocks = re.findall(r"```\n(.*?)```", DOCS, re.DOTALL)
    lines = [shlex.split(line) for block in blocks for line in block.splitlines()]
    commands = [line for line in lines if line[:2] == ["python", "tools/write_shards.py"]]
    assert len(commands) == 4
    found = subprocess.run(
        [sys.executable, ROOT / "tools/write_shards.py", "--help"], capture_output=True, text=True
    )
    known = set(re.findall(r"^ +--(?:\[no\])?(\w+)", found.stdout, re.MULTILINE))
    for command in commands:
        given = {word[2:].split("=")[0] for word in command if word.startswith("--")}
        assert given and given <= known, given - known
    for line in lines:
        for word in line:
            assert not word.startswith("examples/") or (ROOT / word).is_file(), word


def test_the_costs_in_the_docs_are_those_of_the_compiled_steps():
    assert cluster_costs.table() in DOCS


@pytest.mark.parametrize(
    ("devices", "gradients_mb", "embeddings_mb"),
    # By hand: 30,587,632 float32, and 8,192 views of 1,024 float32; (64 - 1) / 64 of them, twice.
    [(64, 240.88, 66.06), (8, 2 * 7 / 8 * 122.350528, 2 * 7 / 8 * 4.194304)],
)
def test_what_collectives_move(devices, gradients_mb, embeddings_mb):
    found = cluster_costs.costs("v5e:2x2", "clef_medium", devices)
    assert found["gradients"] / 1e6 == pytest.approx(gradients_mb, rel=1e-4)
    assert found["embeddings"] / 1e6 == pytest.approx(embeddings_mb, rel=1e-4)
