"""Where a process stands among several, by flags and by what clusters say in the environment."""

import http.server
import re
import threading

import pytest
from jax._src import cloud_tpu_init
from jax._src.clusters import cloud_tpu_cluster

from clef_jax.cluster.place import Place, PlaceError, find_place

SLURM = {
    "SLURM_JOB_ID": "4097",
    "SLURM_STEP_NODELIST": "gpu[07-09],login",
    "SLURM_NTASKS": "3",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
}
OPEN_MPI_4 = {
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
}
OPEN_MPI_5 = {name: OPEN_MPI_4[name] for name in OPEN_MPI_4 if name.startswith("OMPI_COMM")}


@pytest.fixture
def environment(monkeypatch):
    """Sets variables of the environment, besides which no cluster is there."""

    def put(variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return put


@pytest.fixture
def on_tpu(monkeypatch):
    """Has JAX find itself on a TPU VM."""
    for module in (cloud_tpu_init, cloud_tpu_cluster):
        monkeypatch.setattr(module, "running_in_cloud_tpu_vm", True)
    monkeypatch.delenv("TPU_SKIP_MDS_QUERY", raising=False)


def test_without_flags_or_cluster_a_process_is_alone(environment):
    assert find_place() is None
    environment({"KUBERNETES_SERVICE_HOST": "10.0.0.1"})  # Any pod, such as a notebook's.
    assert find_place() is None
    environment(SLURM | {"SLURM_NTASKS": "1", "SLURM_PROCID": "0"})
    assert find_place() is None


def test_slurm_says_where_each_of_its_tasks_stands(environment):
    environment(SLURM)
    # Slurm's job 4097 has the second of the 4,096 highest ports.
    assert find_place() == Place("gpu07:61441", 3, 2, [0])


def test_open_mpi_says_where_each_of_its_ranks_stands(environment):
    environment(OPEN_MPI_4)
    port = 1531576320 // 4096 % 4096 + 61440
    assert find_place() == Place(f"10.96.0.1:{port}", 4, 3, [1])


def test_open_mpi_5_says_all_but_where_process_0_is(environment):
    environment(SLURM | OPEN_MPI_5)  # Started within an allocation of Slurm's.
    with pytest.raises(PlaceError, match=r"Open MPI 5 does not say where.*--coordinator=HOST:PORT"):
        find_place()
    assert find_place("node1:9000") == Place("node1:9000", 4, 3, [1])


def test_gke_says_where_each_worker_of_slices_stands(environment, on_tpu):
    environment({"TPU_SKIP_MDS_QUERY": "true"})  # As GKE has no metadata of TPU VMs.
    environment({"TPU_WORKER_HOSTNAMES": "w0,w1,w2,w3", "TPU_WORKER_ID": "3"})
    environment({"MEGASCALE_NUM_SLICES": "2", "MEGASCALE_SLICE_ID": "1"})
    environment({"MEGASCALE_COORDINATOR_ADDRESS": "localhost:8080"})
    assert find_place() == Place("localhost:8482", 8, 7, None)


def test_a_tpu_vm_says_where_each_worker_of_a_slice_stands(environment, on_tpu):
    said = {"agent-worker-number": "1", "worker-network-endpoints": "a:0:localhost,b:1:10.0.0.2"}

    class Metadata(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            text = said.get(self.path.rpartition("/")[2], "").encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Metadata) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment({"GCE_METADATA_IP": f"127.0.0.1:{server.server_port}"})
        assert find_place() == Place("localhost:8482", 2, 1, None)
        server.shutdown()


def test_a_pod_of_an_indexed_job_needs_the_package_that_asks_or_flags(environment):
    environment({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "1"})
    with pytest.raises(PlaceError, match="package kubernetes.*is not installed.*--processes=1"):
        find_place()
    assert find_place("run-0-0.run:8476", 2, 1) == Place("run-0-0.run:8476", 2, 1, None)
    assert find_place(processes=1) is None


def test_flags_win_over_the_cluster_one_by_one(environment):
    environment(SLURM)
    assert find_place("other:1234") == Place("other:1234", 3, 2, [0])
    assert find_place(process=1) == Place("gpu07:61441", 3, 1, [0])
    assert find_place("other:1234", 8, 7) == Place("other:1234", 8, 7, [0])
    assert find_place(processes=1) is None
    environment({"JAX_COORDINATOR_ADDRESS": "fixed:77", "JAX_COORDINATOR_PORT": "78"})
    assert find_place() == Place("fixed:77", 3, 2, [0])


@pytest.mark.parametrize(
    "given, message",
    [
        (("host:1", None, None), "--processes and --process: not given"),
        ((None, 2, 0), "--coordinator: not given"),
        ((None, 2, None), "--coordinator and --process: not given"),
        (("host:1", 2, 2), "--process is 2 of --processes=2; count the processes from 0"),
        (("host:1", 2, -1), "--process is -1"),
        (("host:1", 1, 1), "--process is 1 of --processes=1"),
        (("host:1", 0, 0), "--process is 0 of --processes=0"),
        (("host", 2, 0), "--coordinator is 'host'; write HOST:PORT"),
        (("host:port", 2, 0), "write HOST:PORT"),
        ((":80", 2, 0), "write HOST:PORT"),
        (("host:65536", 2, 0), "write HOST:PORT"),
    ],
)
def test_half_of_it_or_the_impossible_is_refused_by_name(given, message):
    with pytest.raises(PlaceError, match=re.escape(message)):
        find_place(*given)


def test_what_a_cluster_says_wrongly_is_refused_by_name(environment):
    environment(SLURM | {"SLURM_NTASKS": "many"})
    with pytest.raises(PlaceError, match=r"SlurmCluster does not tell.*many.*--processes=1"):
        find_place()
