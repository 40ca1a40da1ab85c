"""Reads recordings as the commands do, each in a process of its own, and says what it cost.

    python -m tests.faults.read_within < CASES

Each line of CASES is JSON: `path` and `fs`, or null where the file says it. Each line printed tells
of one: how it ended by either way to the samples, its seconds of the processor, and by how many
megabytes it grew.
"""

import json
import os
import resource
import signal
import sys

import pandas  # noqa: F401 - what readers import when they need it is not theirs to pay.
import pydicom.waveforms  # noqa: F401
import scipy.io  # noqa: F401

from clef_jax.data.recordings.formats import open_hinted
from clef_jax.data.recordings.recording import Hints
from clef_jax.data.shards.plan import WriteOptions
from clef_jax.data.shards.prepare import prepare_record
from clef_jax.data.signals.montage import ECG
from clef_jax.data.windows.cut import WindowSettings, choose_leads_of, read_windows, require_windows
from clef_jax.errors import ClefError

# What hangs is killed; what allocates without end as well, before the machine notices.
_SECONDS, _BYTES = 20, 32 << 30


def _as_embed_does(path: str, hints: Hints) -> None:
    settings = WindowSettings(leads=("all",))
    recording = open_hinted(path, hints)
    positions = choose_leads_of(recording, settings)
    starts = require_windows(recording.header.samples, recording.header.fs, settings, path)
    read_windows(recording, positions, starts[:2], settings)


def _as_write_shards_does(path: str, hints: Hints) -> None:
    options = WriteOptions(montage=ECG, min_leads=1, all_windows=True, hints=hints)
    for _ in zip(range(2), prepare_record(path, options).windows, strict=False):
        pass


def _ending(read, path: str, hints: Hints) -> str:
    try:
        read(path, hints)
    except ClefError as error:
        return f"named: {error}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return "read"


def _read(case: dict, out: int) -> None:
    signal.alarm(_SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (_BYTES, _BYTES))
    hints = Hints(fs=case["fs"])
    ways = (_as_embed_does, _as_write_shards_does)
    os.write(out, json.dumps([_ending(way, case["path"], hints) for way in ways]).encode())


def _resident_kb() -> int:
    with open("/proc/self/statm") as stream:
        return int(stream.read().split()[1]) * resource.getpagesize() // 1024


def _measured(case: dict) -> dict:
    reading, writing = os.pipe()
    before_kb = _resident_kb()
    child = os.fork()
    if not child:
        _read(case, writing)
        os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8") as stream:
        endings = json.loads(stream.read() or '["died", "died"]')
    _, _, used = os.wait4(child, 0)
    return {
        "endings": endings,
        "seconds": used.ru_utime + used.ru_stime,
        "megabytes": (used.ru_maxrss - before_kb) / 1024,
    }


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(_measured(json.loads(line))), flush=True)
