"""Where a process stands among those of its run, as its command line or its cluster says."""

import importlib.util
import os
from typing import NamedTuple

# What JAX makes public detects and joins at once; whether there are others is asked before that.
from jax._src import cloud_tpu_init, clusters

from clef_jax.errors import ClefError

_TELL = "give --coordinator=HOST:PORT, --processes and --process; or --processes=1 to run alone"
# Seconds that processes wait for each other at the start.
MEET_SECONDS = 50


class PlaceError(ClefError):
    """It is not known where a process stands; the message says which flags would tell."""


class Place(NamedTuple):
    """A process among several.

    Attributes:
        coordinator: `host:port` of process 0.
        processes: How many there are.
        process: The number of this one.
        devices: Those of its host that the process has; None for all.
    """

    coordinator: str
    processes: int
    process: int
    devices: list[int] | None


class OpenMPI5(clusters.ClusterEnv):
    """Open MPI from release 5 on, which JAX does not detect: it no longer says where process 0 is.

    References:
        jax-ml/jax#14576.
    """

    name = "open_mpi_5"

    @classmethod
    def is_env_present(cls) -> bool:
        """Returns whether mpirun started this process."""
        return "OMPI_COMM_WORLD_SIZE" in os.environ and not clusters.OmpiCluster.is_env_present()

    @classmethod
    def get_coordinator_address(cls, timeout_secs, override_coordinator_port) -> str:
        """Raises RuntimeError, as nothing says it."""
        raise RuntimeError("Open MPI 5 does not say where process 0 is")

    @classmethod
    def get_process_count(cls) -> int:
        """Returns how many processes mpirun started."""
        return int(os.environ["OMPI_COMM_WORLD_SIZE"])

    @classmethod
    def get_process_id(cls) -> int:
        """Returns the number of this one."""
        return int(os.environ["OMPI_COMM_WORLD_RANK"])

    @classmethod
    def get_local_process_id(cls) -> int:
        """Returns its number among those of its host."""
        return int(os.environ["OMPI_COMM_WORLD_LOCAL_RANK"])


def find_place(
    coordinator: str | None = None, processes: int | None = None, process: int | None = None
) -> Place | None:
    """Returns where this process stands among several, None if it is alone.

    What is not given is taken from the cluster, as JAX detects it: Slurm, Open MPI, Cloud TPU and
    its GKE, Kubernetes' indexed jobs and JobSets.

    Args:
        coordinator: `host:port` of process 0.
        processes: How many there are; 1 is alone, whatever the cluster says.
        process: The number of this one.

    Raises:
        PlaceError: There are several, and not all is known, or it is impossible.
    """
    if processes == 1 and not process:
        return None
    given = (coordinator, processes, process)
    devices, name = None, "the cluster"
    coordinator = coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS")
    try:
        # Other pods than those of an indexed job, and of JobSets, are none of several.
        cluster = _cluster(may_be_pod="JOB_COMPLETION_INDEX" in os.environ and None in given)
        name = cluster.__name__ if cluster else name
        if given == (None, None, None) and (cluster is None or cluster.get_process_count() == 1):
            return None
        if cluster is not None:
            processes = cluster.get_process_count() if processes is None else processes
            process = cluster.get_process_id() if process is None else process
            devices = _devices(cluster)
            coordinator = coordinator or cluster.get_coordinator_address(
                timeout_secs=MEET_SECONDS,
                override_coordinator_port=os.environ.get("JAX_COORDINATOR_PORT"),
            )
    except (ImportError, LookupError, OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise PlaceError(
            f"{name} does not tell all of this run's processes ({reason}); {_TELL}"
        ) from None
    return _checked(coordinator, processes, process, devices)


def _cluster(*, may_be_pod: bool) -> type[clusters.ClusterEnv] | None:
    """Returns the cluster that started this process, if any did.

    Args:
        may_be_pod: Whether Kubernetes may be asked of this process's job, which it need not allow.
    """
    # First, as mpirun's processes have what Slurm said of the one that started them.
    known: list[type[clusters.ClusterEnv]] = [OpenMPI5, *clusters.ClusterEnv._cluster_types]
    for cluster in known:
        if cluster.opt_in_only_method:
            continue
        if cluster is clusters.K8sCluster:
            if not may_be_pod:
                continue
            if importlib.util.find_spec("kubernetes") is None:
                raise ImportError("the package kubernetes, by which JAX asks, is not installed")
        if cluster.is_env_present():
            return cluster
    return None


def _devices(cluster: type[clusters.ClusterEnv]) -> list[int] | None:
    """Returns the one device that is a process's where its host has several, as JAX has it."""
    local = None if cloud_tpu_init.running_in_cloud_tpu_vm else cluster.get_local_process_id()
    return None if local is None else [local]


def _checked(
    coordinator: str | None, processes: int | None, process: int | None, devices: list[int] | None
) -> Place:
    if coordinator is None or processes is None or process is None:
        known = {"--coordinator": coordinator, "--processes": processes, "--process": process}
        missing = " and ".join(flag for flag, value in known.items() if value is None)
        raise PlaceError(f"{missing}: not given, and no cluster says it; {_TELL}")
    if not 0 <= process < processes:
        raise PlaceError(
            f"--process is {process} of --processes={processes}; count the processes from 0"
        )
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise PlaceError(f"--coordinator is {coordinator!r}; write HOST:PORT of process 0")
    return Place(coordinator, processes, process, devices)
