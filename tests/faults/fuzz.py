"""Gives damaged files of one kind to what reads them, and tells what came of it.

    python -m tests.faults.fuzz KIND FOLDER COUNT SEED

FOLDER holds the whole files of the kind, and is a copy. Prints one JSON object: how many inputs
were refused by name, how many were read, what else was raised, and what was opened for writing
outside of FOLDER.
"""

import collections
import json
import os
import pathlib
import signal
import sys
import traceback
import warnings

import numpy as np

from clef_jax import reads
from clef_jax.errors import ClefError
from tests.faults.fuzz_readers import READERS
from tests.faults.mutations import mutated

_SECONDS = 60
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGING = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.chmod")
_RUNNING = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect")


def watch(folder, outside):
    """Notes from now on what is written outside of a folder, and what is run."""

    def audit(event, arguments):
        if event == "open":
            path, _, flags = arguments
            if not isinstance(path, str | bytes) or not (flags or 0) & _WRITING:
                return
        elif event in _CHANGING:
            path = arguments[0]
        elif event in _RUNNING:
            outside.append(f"{event} {arguments!r}")
            return
        else:
            return
        found = os.path.realpath(os.fsdecode(path))
        if not found.startswith(folder + os.sep) and found != os.devnull:
            outside.append(f"{event} {found}")

    sys.addaudithook(audit)


def too_long(*_):
    raise AssertionError("it hangs")


def fuzz(kind, folder, count, seed):
    rng = np.random.default_rng(seed)
    read, after = READERS[kind]
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size)
    whole = {path: path.read_bytes() for path in files}
    read(folder)  # Whole, it is read; imports are over.
    reads.PAUSES_S = tuple(0.0 for _ in reads.PAUSES_S)  # What is damaged stays so.
    outside, found, wrong = [], collections.Counter(), []
    watch(os.path.realpath(folder), outside)
    signal.signal(signal.SIGALRM, too_long)
    for number in range(count):
        path = files[rng.integers(len(files))]
        path.write_bytes(mutated(whole[path], rng))
        after(folder, rng)
        signal.alarm(_SECONDS)
        try:
            read(folder)
            found["read"] += 1
        except ClefError:
            found["refused"] += 1
        except BaseException as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            kept = folder.parent / f"{kind}-{seed}-{number}{path.suffix}"
            kept.write_bytes(path.read_bytes())
            wrong.append(f"{kept}: {type(error).__name__}: {str(error)[:200]} ({where})")
        signal.alarm(0)
        path.write_bytes(whole[path])
    return {"found": found, "wrong": wrong, "outside": outside}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    chosen, place, how_many, first_seed = sys.argv[1:]
    report = fuzz(chosen, pathlib.Path(place), int(how_many), int(first_seed))
    print(json.dumps(report))
