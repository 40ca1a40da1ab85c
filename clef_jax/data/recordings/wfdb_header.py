"""WFDB headers: the text of a .hea file, and of those it names, as a `WfdbHeader`.

Parsed here rather than by the wfdb package: it reads them as ASCII and drops what is not, so that a
gain in µV would silently become one in V, and its parser takes twenty times longer than the
samples. The format: https://physionet.org/physiotools/wag/header-5.htm
"""

import dataclasses
import functools
import math
import os
import re
from collections.abc import Sequence

from clef_jax.data.recordings.channels import why_no_ecg
from clef_jax.data.recordings.demographics import about_patient
from clef_jax.data.recordings.recording import LONGEST_S, RecordingError, unreadable
from clef_jax.data.recordings.wfdb_lines import (
    RecordLine,
    is_beside,
    parse_channel,
    parse_record_line,
    shown,
)
from clef_jax.data.recordings.wfdb_samples import frames_in_file
from clef_jax.data.recordings.wfdb_types import Channel, Segment, WfdbHeader
from clef_jax.data.signals.leads import name_leads
from clef_jax.files import open_regular

_SIGNAL_SUFFIXES = (".hea", ".dat", ".mat")
_GAP = "~"
_HIGHEST_FS = 20_000
# Far above what any recorder or database writes: damage, which costs time and memory to follow.
_LARGEST_BYTES = 1 << 19

_LENGTH = re.compile(r"\d{1,18}")
_MULTI_SEGMENT = re.compile(rb"(?:\s|#.*\n)*[^\s#/]+/\d+\s")


@dataclasses.dataclass(frozen=True)
class _Text:
    """A header's lines by kind."""

    file: str
    record: RecordLine
    lines: list[str]
    comments: tuple[str, ...]


# The records of a database share their labels, which take as long to understand as the rest.
_leads = functools.lru_cache(maxsize=64)(name_leads)


def _read_text(record: str) -> _Text:
    file = record + ".hea"
    try:
        with open_regular(file) as stream:
            content = stream.read(_LARGEST_BYTES + 1)
    except OSError as error:
        raise unreadable(
            f"{file}:", error, "a WFDB record is a .hea beside its .dat or .mat"
        ) from error
    if len(content) > _LARGEST_BYTES:
        raise RecordingError(
            f"{file}: holds more than {_LARGEST_BYTES:,} bytes, which no WFDB header does; restore "
            "the header"
        )
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    lines = [line.strip() for line in text.splitlines()]
    comments = tuple(line.lstrip("#").strip() for line in lines if line.startswith("#"))
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise RecordingError(f"{file}: holds no record line; the header is empty, restore it")
    return _Text(file, parse_record_line(lines[0], file), lines[1:], comments)


def _parse_channels(text: _Text) -> tuple[Channel, ...]:
    if text.record.segments is not None:
        raise RecordingError(
            f"{text.file}: a multi-segment record in the place of a segment; expected a header "
            "with signal lines: segments cannot have segments; correct the headers"
        )
    if len(text.lines) != text.record.channels:
        raise RecordingError(
            f"{text.file}: {len(text.lines)} signal lines, but the record line declares "
            f"{text.record.channels}; the header is damaged, restore it"
        )
    return tuple(parse_channel(line, text.file) for line in text.lines)


def _parse_segments(text: _Text, folder: str) -> tuple[Segment, ...]:
    segments = []
    for line in text.lines:
        name, *length = line.split()
        if len(length) != 1 or not _LENGTH.fullmatch(length[0]):
            raise RecordingError(
                f"{text.file}: segment line {shown(line)} of a multi-segment record; expected "
                "'record samples', such as '00001_0001 5000'; the header is damaged, restore it"
            )
        if not is_beside(name):
            raise RecordingError(
                f"{text.file}: segment {name!r} lies outside the record's folder; refused: "
                "segments are expected beside the header that names them"
            )
        path = None if name == _GAP else os.path.join(folder, name)
        segments.append(Segment(path, int(length[0])))
    if not segments or len(segments) != text.record.segments:
        raise RecordingError(
            f"{text.file}: {len(segments)} segment lines, but the record line declares "
            f"{text.record.segments}; the header is damaged, restore it"
        )
    if all(segment.path is None for segment in segments):
        raise RecordingError(f"{text.file}: all its segments are gaps; there is nothing to read")
    return tuple(segments)


def _frames(text: _Text, channels: Sequence[Channel], folder: str) -> int:
    if all(channel.storage == 0 for channel in channels):
        raise RecordingError(
            f"{text.file}: describes leads, but stores no samples of them: the layout of a "
            "multi-segment record; give that record, whose header names this one"
        )
    return text.record.frames or frames_in_file(channels, folder, text.file)


def _frames_of_segments(text: _Text, segments: Sequence[Segment], samples_per_frame: int) -> int:
    total = sum(segment.frames for segment in segments)
    frames = text.record.frames or total
    fs = text.record.frame_fs * samples_per_frame
    seconds = frames / text.record.frame_fs
    if not 0 < frames <= total or seconds > LONGEST_S or fs > _HIGHEST_FS:
        raise RecordingError(
            f"{text.file}: declares {frames} samples, {seconds:g} s at {fs:g} Hz, in segments of "
            f"{total}; expected no more than the segments hold, no more than a year and no more "
            f"than {_HIGHEST_FS} Hz; the header is damaged, restore it"
        )
    return frames


def _ecg_samples_per_frame(channels: Sequence[Channel]) -> int:
    """Returns the highest rate of the ECG leads; of all leads, where none is known as one."""
    sizes = [channel.samples_per_frame for channel in channels]
    if len(set(sizes)) == 1:
        return sizes[0]
    reasons = why_no_ecg([c.label for c in channels], [c.units for c in channels])
    ecg = [size for size, reason in zip(sizes, reasons, strict=True) if reason is None]
    return max(ecg or sizes)


def _header(
    record: str,
    text: _Text,
    channels: tuple[Channel, ...],
    frames: int,
    comments: tuple[str, ...],
    segments: tuple[Segment, ...] = (),
) -> WfdbHeader:
    for channel in channels:
        if channel.skew >= frames:
            raise RecordingError(
                f"{text.file}: signal {channel.label!r} has a skew of {channel.skew} samples, but "
                f"the record has {frames}; expected a few; correct the header"
            )
    samples_per_frame = _ecg_samples_per_frame(channels)
    patient, age, sex = about_patient(comments)
    return WfdbHeader(
        path=record,
        fs=text.record.frame_fs * samples_per_frame,
        leads=_leads(tuple(channel.label for channel in channels)),
        samples=frames * samples_per_frame,
        patient=patient,
        age=age,
        sex=sex,
        comments=comments,
        channels=channels,
        samples_per_frame=samples_per_frame,
        segments=segments,
    )


def read_header(path: str | os.PathLike) -> WfdbHeader:
    """Reads a WFDB header, and of a multi-segment record the one that names its leads.

    Args:
        path: The record, with or without .hea, .dat or .mat.

    Raises:
        RecordingError: A header is missing or damaged; `RecordingUnavailable` where reading it
            again may go well.
    """
    record = os.fspath(path)
    stem, suffix = os.path.splitext(record)
    record = stem if suffix.lower() in _SIGNAL_SUFFIXES else record
    folder = os.path.dirname(record)
    text = _read_text(record)
    if text.record.segments is None:
        channels = _parse_channels(text)
        return _header(record, text, channels, _frames(text, channels, folder), text.comments)
    segments = _parse_segments(text, folder)
    first = _read_text(next(s.path for s in segments if s.path is not None))
    channels = _parse_channels(first)
    if len(channels) != text.record.channels:
        raise RecordingError(
            f"{text.file}: declares {text.record.channels} leads, but {first.file}, which names "
            f"them, {len(channels)}; the headers are damaged, restore them"
        )
    frames = _frames_of_segments(text, segments, _ecg_samples_per_frame(channels))
    return _header(record, text, channels, frames, text.comments or first.comments, segments)


def read_segment_header(whole: WfdbHeader, segment: Segment) -> WfdbHeader:
    """Reads the header of one segment, which is not a gap.

    Raises:
        RecordingError: It is missing or damaged, or does not fit the record; as `read_header`.
    """
    assert segment.path is not None, "a gap has no header"
    text = _read_text(segment.path)
    channels = _parse_channels(text)
    frames = _frames(text, channels, os.path.dirname(segment.path))
    frame_fs = whole.fs / whole.samples_per_frame
    if frames < segment.frames or not math.isclose(text.record.frame_fs, frame_fs, rel_tol=1e-6):
        raise RecordingError(
            f"{text.file}: {frames} samples at {text.record.frame_fs:g} Hz, but {whole.path}.hea, "
            f"of which it is a segment, declares {segment.frames} at {frame_fs:g} Hz; restore the "
            "headers"
        )
    return _header(segment.path, text, channels, frames, text.comments)


def segments_of(folder: str, record: str) -> set[str]:
    """Returns the names of a record's segments; none where it is a record of one piece.

    A header that cannot be read or is damaged gives none, and fails when it is read.
    """
    path = os.path.join(folder, record)
    try:
        with open_regular(path + ".hea") as stream:
            # A record line is short, and the headers of a folder may be many.
            if not _MULTI_SEGMENT.match(stream.read(256)):
                return set()
        segments = _parse_segments(_read_text(path), folder)
    except (OSError, RecordingError):
        return set()
    return {os.path.basename(segment.path) for segment in segments if segment.path is not None}
