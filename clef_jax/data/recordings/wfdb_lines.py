"""The lines of WFDB headers: of the record, and of each signal."""

import dataclasses
import math
import os
import re

from clef_jax.data.recordings.channels import MOST_CHANNELS
from clef_jax.data.recordings.recording import RecordingError
from clef_jax.data.recordings.wfdb_types import Channel

_DEFAULT_GAIN = 200.0
_DEFAULT_FS = 250.0
# Far above what any recorder or database writes: damage.
_GAINS = (1e-9, 1e12)
_LARGEST_NUMBER = 1 << 31
_LONGEST_SHOWN = 120

# Whole numbers of up to 18 digits: longer ones are damage, and of thousands Python makes no int.
_FORMAT = re.compile(r"(\d{1,9})(?:x(\d{1,9}))?(?::(\d{1,18}))?(?:\+(\d{1,18}))?$")
_GAIN = re.compile(
    r"([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)(?:\(([+-]?\d{1,18})\))?(?:/(\S+))?$"
)


@dataclasses.dataclass(frozen=True)
class RecordLine:
    """The first line of a header; `segments` and `frames` are None where it does not say."""

    segments: int | None
    channels: int
    frame_fs: float
    frames: int | None


def is_beside(name: str) -> bool:
    """Says whether a name from a header is a plain one, which leads to no other folder."""
    return os.path.basename(name) == name and name not in ("", ".", "..") and "\0" not in name


def shown(text: str) -> str:
    """Returns a line for a message, which has no room for all of a long one."""
    return repr(text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…")


def parse_record_line(line: str, file: str) -> RecordLine:
    """Returns what a record line says, or raises `RecordingError`; `file` is for the message."""
    fields = line.split()
    segments = re.search(r"/(\d+)$", fields[0])
    try:
        if "/" in fields[0] and segments is None:
            raise ValueError
        n_segments = int(segments.group(1)) if segments else None
        n_channels = int(fields[1])
        fs = float(re.split(r"[/(]", fields[2])[0]) if len(fields) > 2 else _DEFAULT_FS
        frames = int(fields[3]) if len(fields) > 3 else None
    except (IndexError, ValueError):
        raise RecordingError(
            f"{file}: record line {shown(line)}; expected 'name channels rate samples', such as "
            "'00001 12 500 5000'; the header is damaged or not WFDB, restore it"
        ) from None
    if not (0 < n_channels <= MOST_CHANNELS and math.isfinite(fs) and fs > 0):
        raise RecordingError(
            f"{file}: record line {shown(line)} declares {n_channels} channels at {fs} Hz; "
            f"expected 1 to {MOST_CHANNELS} channels and a positive rate; correct the header"
        )
    return RecordLine(n_segments, n_channels, fs, frames or None)


def parse_channel(line: str, file: str) -> Channel:
    """Returns what a signal line says, or raises `RecordingError`; `file` is for the message."""
    # Eight fields, then a description that may hold blanks; trailing fields may be absent.
    fields = line.split(None, 8)
    storage = _FORMAT.match(fields[1]) if len(fields) > 1 else None
    gain = _GAIN.match(fields[2]) if len(fields) > 2 else None
    if storage is None or (len(fields) > 2 and gain is None):
        raise RecordingError(
            f"{file}: signal line {shown(line)}; expected 'file format gain(baseline)/units …', "
            "such as '00001.dat 16 1000(0)/mV 16 0 -115 13047 0 II'; the header is damaged, "
            "restore it"
        )
    if not is_beside(fields[0]):
        raise RecordingError(
            f"{file}: signal file {fields[0]!r} lies outside the record's folder; refused: signal "
            "files are expected beside their header"
        )
    samples_per_frame = int(storage.group(2) or 1)
    if samples_per_frame < 1:
        raise RecordingError(
            f"{file}: no samples per frame in signal line {shown(line)}; expected one or more "
            "after the x; correct the header"
        )
    value, baseline, units = gain.groups() if gain else (None, None, None)
    # By the WFDB format a gain of 0 means "uncalibrated", to be taken as the default.
    gain_value = float(value or 0)
    if re.search("[1-9]", (value or "").lower().split("e")[0]) and not (
        _GAINS[0] <= abs(gain_value) <= _GAINS[1]
    ):
        raise RecordingError(
            f"{file}: gain {gain_value:g} in signal line {shown(line)}; expected "
            f"{_GAINS[0]:g} to {_GAINS[1]:g} units of the recorder in a physical one; the header "
            "is damaged, restore it"
        )
    numbers = {"ADC zero": 0, "initial value": 0, "baseline": int(baseline or 0)}
    # Only format 8 needs the initial value, and headers without it are in use.
    needed = numbers if int(storage.group(1)) == 8 else ("ADC zero",)
    for field, name in enumerate(needed, start=4):
        try:
            numbers[name] = int(fields[field]) if len(fields) > field else 0
        except ValueError:
            raise RecordingError(
                f"{file}: {name} {shown(fields[field])} in signal line {shown(line)}; expected a "
                "whole number; the header is damaged, restore it"
            ) from None
    if beyond := [name for name, x in numbers.items() if abs(x) > _LARGEST_NUMBER]:
        raise RecordingError(
            f"{file}: {beyond[0]} in signal line {shown(line)} is beyond 32 bits, which WFDB "
            "samples have; the header is damaged, restore it"
        )
    return Channel(
        file=fields[0],
        storage=int(storage.group(1)),
        samples_per_frame=samples_per_frame,
        skew=int(storage.group(3) or 0),
        byte_offset=int(storage.group(4) or 0),
        gain=gain_value or _DEFAULT_GAIN,
        baseline=numbers["ADC zero" if baseline is None else "baseline"],
        units=units or "mV",
        initial=numbers["initial value"],
        label=fields[8] if len(fields) > 8 else "",
    )
