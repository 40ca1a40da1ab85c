"""The EDF and BDF formats: https://www.edfplus.info/specs/edf.html and edfplus.html.

Read here, because the usual readers refuse discontinuous files and many of the headers that
recorders write. The formats are small: a header in ASCII, then data records of the same length in
time, each holding a stretch of every channel, in 16 bits (EDF) or 24 (BDF).
"""

import contextlib
import dataclasses
import functools
import math
import os
import re
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from clef_jax.data.recordings.recording import LONGEST_S, RecordingError, unreadable
from clef_jax.files import stat_regular

# Widths of the fields of the first 256 bytes, and of those that follow for each channel.
_FIXED = {
    "version": 8,
    "patient": 80,
    "recording": 80,
    "start date": 8,
    "start time": 8,
    "header bytes": 8,
    "reserved": 44,
    "number of data records": 8,
    "duration of a data record": 8,
    "number of channels": 4,
}
_PER_CHANNEL = {
    "label": 16,
    "transducer": 80,
    "physical dimension": 8,
    "physical minimum": 8,
    "physical maximum": 8,
    "digital minimum": 8,
    "digital maximum": 8,
    "prefiltering": 80,
    "samples in a data record": 8,
    "reserved": 32,
}
_HEADER_BYTES = sum(_FIXED.values())
_UNIT_OFFSET = 96  # of the field's first entry behind the fixed ones, for each channel
_ANNOTATIONS = ("EDF Annotations", "BDF Annotations")


@dataclasses.dataclass(frozen=True)
class EdfChannel:
    """A channel of the file.

    Attributes:
        label: As in the header.
        unit: As in the header.
        physical: Smallest and largest value in that unit.
        digital: The digital values of these.
        samples: In a data record.
        first: Samples of the data record that precede this channel's.
        unit_at: Where the unit lies in the file, bytes.
    """

    label: str
    unit: str
    physical: tuple[float, float]
    digital: tuple[int, int]
    samples: int
    first: int
    unit_at: int


@dataclasses.dataclass(frozen=True)
class EdfFile:
    """What the header of a file says.

    Attributes:
        path: The file.
        modified_ns: When it was last written.
        width: Bytes of a sample.
        header_bytes: Where the data records begin.
        records: Number of data records.
        record_s: Duration of a data record, seconds.
        record_bytes: Size of a data record.
        kind: "C" or "D" for a continuous or discontinuous EDF+ or BDF+, "" for plain EDF or BDF.
        patient: The field of that name.
        recording: The field of that name.
        channels: The signals.
        annotations: The channels that hold annotations instead.
    """

    path: str
    modified_ns: int
    width: int
    header_bytes: int
    records: int
    record_s: float
    record_bytes: int
    kind: str
    patient: str
    recording: str
    channels: tuple[EdfChannel, ...]
    annotations: tuple[EdfChannel, ...]

    def offset(self, record: int, sample: int) -> int:
        """Returns where in the file a sample of a data record lies, bytes."""
        return self.header_bytes + record * self.record_bytes + sample * self.width


@contextlib.contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    try:
        stat_regular(path)
        with open(path, "rb", buffering=0) as stream:
            yield stream
    except OSError as error:
        raise unreadable(f"{path}:", error, "copy it again") from error


def _text(field: bytes) -> str:
    field = field.strip(b" \0")
    try:
        return field.decode("utf-8")
    except UnicodeDecodeError:
        return field.decode("latin-1")


def _number(path: str, name: str, text: str, kind: type = float):
    try:
        value = kind(text.replace(",", "."))
        if math.isfinite(value):
            return value
    except ValueError:
        pass
    raise RecordingError(
        f"{path}: not a readable EDF file: its {name} is {text!r}, expected a number; copy or "
        "export it again"
    )


def _split_fields(block: bytes, widths: dict[str, int], count: int) -> dict[str, list[str]]:
    fields, at = {}, 0
    for name, width in widths.items():
        fields[name] = [_text(block[at + i * width : at + (i + 1) * width]) for i in range(count)]
        at += count * width
    return fields


def _parse_channels(path: str, block: bytes, count: int) -> list[EdfChannel]:
    fields = _split_fields(block, _PER_CHANNEL, count)
    channels, first = [], 0
    for i in range(count):
        row = {name: values[i] for name, values in fields.items()}

        def number(name, kind=float, row=row):
            return _number(path, f"{name} of {row['label']!r}", row[name], kind)

        channel = EdfChannel(
            label=row["label"],
            unit=row["physical dimension"],
            physical=(number("physical minimum"), number("physical maximum")),
            digital=(number("digital minimum", int), number("digital maximum", int)),
            samples=number("samples in a data record", int),
            first=first,
            unit_at=_HEADER_BYTES + _UNIT_OFFSET * count + i * _PER_CHANNEL["physical dimension"],
        )
        if channel.samples < 0:
            raise RecordingError(
                f"{path}: {channel.label!r} has {channel.samples} samples in a data record; the "
                "header is damaged, copy or export the file again"
            )
        channels.append(channel)
        first += channel.samples
    return channels


def _require_layout(path: str, count: int, header_bytes: int, records: int, present: int) -> None:
    expected = _HEADER_BYTES + count * sum(_PER_CHANNEL.values())
    if count < 1 or header_bytes != expected:
        raise RecordingError(
            f"{path}: not a readable EDF file: a header of {header_bytes} bytes for {count} "
            f"channels, expected {expected}; copy or export it again"
        )
    if records > present:
        raise RecordingError(
            f"{path}: truncated: {records} data records declared, {present} whole ones found; copy "
            "the file again"
        )


def read_edf_header(path: str) -> EdfFile:
    """Reads what a file says of itself.

    Raises:
        RecordingError: The file cannot be read, is no EDF or BDF, is damaged or truncated.
    """
    with _opened(path) as stream:
        about = os.fstat(stream.fileno())
        block = stream.read(_HEADER_BYTES)
        version = block[:8]
        if version.strip(b" \0") != b"0" and version != b"\xffBIOSEMI":
            raise RecordingError(
                f"{path}: not a readable EDF file: it begins with {version!r}, expected '0' (EDF) "
                "or '\\xffBIOSEMI' (BDF)"
            )
        fixed = {name: found[0] for name, found in _split_fields(block, _FIXED, 1).items()}

        def number(name, kind=int):
            return _number(path, name, fixed[name], kind)

        count = number("number of channels")
        block = stream.read(max(count, 0) * sum(_PER_CHANNEL.values()))
    channels = _parse_channels(path, block, count)
    width = 3 if version.startswith(b"\xff") else 2
    record_bytes = width * sum(channel.samples for channel in channels)
    header_bytes, records = number("header bytes"), number("number of data records")
    present = max(about.st_size - header_bytes, 0) // max(record_bytes, 1)
    _require_layout(path, count, header_bytes, records, present)
    kind = re.match(r"[EB]DF\+([CD])", fixed["reserved"])
    return EdfFile(
        path=path,
        modified_ns=about.st_mtime_ns,
        width=width,
        header_bytes=header_bytes,
        # -1 stands for a recording that was not closed.
        records=present if records < 0 else records,
        record_s=number("duration of a data record", float),
        record_bytes=record_bytes,
        kind=kind.group(1) if kind else "",
        patient=fixed["patient"],
        recording=fixed["recording"],
        channels=tuple(c for c in channels if c.label not in _ANNOTATIONS),
        annotations=tuple(c for c in channels if c.label in _ANNOTATIONS),
    )


@functools.lru_cache(maxsize=1)
def read_onsets(file: EdfFile) -> np.ndarray:
    """Returns float64 [records], when each data record begins, seconds after the first.

    Remembered for the last file, because a long recording is opened anew for every few windows.

    Raises:
        RecordingError: The onsets of a discontinuous file are missing or make no sense.
    """
    if file.kind != "D":
        return np.arange(file.records) * file.record_s
    if not file.annotations:
        raise RecordingError(
            f"{file.path}: discontinuous, but without the annotations that tell when each data "
            "record begins; export it again"
        )
    keeper = file.annotations[0]
    onsets = np.empty(file.records)
    with _opened(file.path) as stream:
        for record in range(file.records):
            stream.seek(file.offset(record, keeper.first))
            stamp = re.match(rb"[+-]\d+(?:\.\d*)?", stream.read(keeper.samples * file.width))
            if stamp is None:
                raise RecordingError(
                    f"{file.path}: data record {record} does not begin with its onset, such as "
                    "'+12.5'; the file is damaged, copy or export it again"
                )
            onsets[record] = float(stamp.group())
    if not onsets[-1] - onsets[0] < LONGEST_S:
        raise RecordingError(
            f"{file.path}: its data records begin {onsets[0]:g} to {onsets[-1]:g} s after the "
            "start, more than a year apart; the file is damaged, copy or export it again"
        )
    overlaps = np.flatnonzero(np.diff(onsets) < 0.99 * file.record_s)
    if overlaps.size:
        record = overlaps[0] + 1
        raise RecordingError(
            f"{file.path}: data record {record} begins at {onsets[record]:g} s, before the one in "
            "front of it ends; the file is damaged, copy or export it again"
        )
    return onsets - onsets[0]


def _digital_samples(content: bytes, width: int) -> np.ndarray:
    if width == 2:
        return np.frombuffer(content, "<i2")
    padded = np.zeros((len(content) // 3, 4), np.uint8)
    padded[:, 1:] = np.frombuffer(content, np.uint8).reshape(-1, 3)
    return padded.view("<i4")[:, 0] >> 8


def read_channel(
    file: EdfFile, channel: EdfChannel, begins: np.ndarray, start: int, stop: int
) -> np.ndarray:
    """Returns float64 [stop - start], a part of a channel in its own unit.

    Args:
        file: The file.
        channel: The channel.
        begins: int64 [records], at which sample of the channel each data record begins; between
            data records the signal is NaN.
        start: First sample.
        stop: One past the last sample.

    Raises:
        RecordingError: The file cannot be read or has become shorter.
    """
    out = np.full(stop - start, np.nan)
    first = max(int(np.searchsorted(begins, start, "right")) - 1, 0)
    with _opened(file.path) as stream:
        for record in range(first, int(np.searchsorted(begins, stop, "left"))):
            begin = int(begins[record])
            skipped = max(start - begin, 0)
            count = min(stop - begin, channel.samples) - skipped
            if count <= 0:
                continue
            stream.seek(file.offset(record, channel.first + skipped))
            content = stream.read(count * file.width)
            if len(content) < count * file.width:
                raise RecordingError(f"{file.path}: ends in data record {record}; copy it again")
            at = begin + skipped - start
            out[at : at + count] = _digital_samples(content, file.width)
    (lowest, highest), (low, high) = channel.digital, channel.physical
    return (out - lowest) * ((high - low) / (highest - lowest)) + low
