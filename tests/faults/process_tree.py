"""What a process takes, and those that it started."""

import pathlib
import re
from typing import NamedTuple


class Taken(NamedTuple):
    """What processes take at a time.

    Attributes:
        memory_mb: Held by them alone: their own memory, and their share of what they hold in
            common. Not what they have read of files, which the kernel may take back.
        files: Open file descriptors.
        threads: Of all.
    """

    memory_mb: float
    files: int
    threads: int


def taken_by(process):
    """Returns what a `psutil.Process` and its descendants take.

    Raises:
        psutil.NoSuchProcess, ProcessLookupError, FileNotFoundError: One has ended meanwhile.
    """
    tree = [process, *process.children(recursive=True)]
    return Taken(
        sum(_memory_mb(one.pid) for one in tree),
        sum(one.num_fds() for one in tree),
        sum(one.num_threads() for one in tree),
    )


def _memory_mb(pid):
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(kb) for kb in re.findall(r"Pss_(?:Anon|Shmem): +(\d+) kB", text)) / 1000
