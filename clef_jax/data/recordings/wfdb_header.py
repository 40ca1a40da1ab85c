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
from clef_jax.data.recordings.recording import RecordingError, unreadable
from clef_jax.data.recordings.wfdb_samples import frames_in_file
from clef_jax.data.recordings.wfdb_types import Channel, Segment, WfdbHeader
from clef_jax.data.signals.leads import name_leads

_DEFAULT_GAIN = 200.0
_DEFAULT_FS = 250.0
_SIGNAL_SUFFIXES = (".hea", ".dat", ".mat")
_GAP = "~"
# A header can declare gaps of any length, which no file bears out.
_LONGEST_S = 366 * 86_400
_HIGHEST_FS = 20_000

# Whole numbers of up to 18 digits: longer ones are damage, and of thousands Python makes no int.
_FORMAT = re.compile(r"(\d{1,9})(?:x(\d{1,9}))?(?::(\d{1,18}))?(?:\+(\d{1,18}))?$")
_GAIN = re.compile(
    r"([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)(?:\(([+-]?\d{1,18})\))?(?:/(\S+))?$"
)
_LENGTH = re.compile(r"\d{1,18}")
_MULTI_SEGMENT = re.compile(rb"(?:\s|#.*\n)*[^\s#/]+/\d+\s")


@dataclasses.dataclass(frozen=True)
class _RecordLine:
    """The first line of a header; `segments` and `frames` are None where it does not say."""

    segments: int | None
    channels: int
    frame_fs: float
    frames: int | None


@dataclasses.dataclass(frozen=True)
class _Text:
    """A header's lines by kind."""

    file: str
    record: _RecordLine
    lines: list[str]
    comments: tuple[str, ...]


# The records of a database share their labels, which take as long to understand as the rest.
_leads = functools.lru_cache(maxsize=64)(name_leads)


def _is_beside(name: str) -> bool:
    """Says whether a name from a header is a plain one, which leads to no other folder."""
    return os.path.basename(name) == name and name not in ("", ".", "..") and "\0" not in name


def _parse_record_line(line: str, file: str) -> _RecordLine:
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
            f"{file}: record line {line!r}; expected 'name channels rate samples', such as "
            "'00001 12 500 5000'; the header is damaged or not WFDB, restore it"
        ) from None
    if not (n_channels > 0 and math.isfinite(fs) and fs > 0):
        raise RecordingError(
            f"{file}: record line {line!r} declares {n_channels} channels at {fs} Hz; expected at "
            "least one channel and a positive rate; correct the header"
        )
    return _RecordLine(n_segments, n_channels, fs, frames or None)


def _parse_channel(line: str, file: str) -> Channel:
    # Eight fields, then a description that may hold blanks; trailing fields may be absent.
    fields = line.split(None, 8)
    storage = _FORMAT.match(fields[1]) if len(fields) > 1 else None
    gain = _GAIN.match(fields[2]) if len(fields) > 2 else None
    if storage is None or (len(fields) > 2 and gain is None):
        raise RecordingError(
            f"{file}: signal line {line!r}; expected 'file format gain(baseline)/units …', such as "
            "'00001.dat 16 1000(0)/mV 16 0 -115 13047 0 II'; the header is damaged, restore it"
        )
    if not _is_beside(fields[0]):
        raise RecordingError(
            f"{file}: signal file {fields[0]!r} lies outside the record's folder; refused: signal "
            "files are expected beside their header"
        )
    samples_per_frame = int(storage.group(2) or 1)
    if samples_per_frame < 1:
        raise RecordingError(
            f"{file}: no samples per frame in signal line {line!r}; expected one or more after "
            "the x; correct the header"
        )
    numbers = {"ADC zero": 0, "initial value": 0}
    # Only format 8 needs the initial value, and headers without it are in use.
    needed = numbers if int(storage.group(1)) == 8 else ("ADC zero",)
    for field, name in enumerate(needed, start=4):
        try:
            numbers[name] = int(fields[field]) if len(fields) > field else 0
        except ValueError:
            raise RecordingError(
                f"{file}: {name} {fields[field]!r} in signal line {line!r}; expected a whole "
                "number; the header is damaged, restore it"
            ) from None
    value, baseline, units = gain.groups() if gain else (None, None, None)
    return Channel(
        file=fields[0],
        storage=int(storage.group(1)),
        samples_per_frame=samples_per_frame,
        skew=int(storage.group(3) or 0),
        byte_offset=int(storage.group(4) or 0),
        # By the WFDB format a gain of 0 means "uncalibrated", to be taken as the default.
        gain=float(value or 0) or _DEFAULT_GAIN,
        baseline=numbers["ADC zero"] if baseline is None else int(baseline),
        units=units or "mV",
        initial=numbers["initial value"],
        label=fields[8] if len(fields) > 8 else "",
    )


def _read_text(record: str) -> _Text:
    file = record + ".hea"
    try:
        with open(file, "rb") as stream:
            content = stream.read()
    except OSError as error:
        raise unreadable(
            f"{file}:", error, "a WFDB record is a .hea beside its .dat or .mat"
        ) from error
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    lines = [line.strip() for line in text.splitlines()]
    comments = tuple(line.lstrip("#").strip() for line in lines if line.startswith("#"))
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise RecordingError(f"{file}: holds no record line; the header is empty, restore it")
    return _Text(file, _parse_record_line(lines[0], file), lines[1:], comments)


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
    return tuple(_parse_channel(line, text.file) for line in text.lines)


def _parse_segments(text: _Text, folder: str) -> tuple[Segment, ...]:
    segments = []
    for line in text.lines:
        name, *length = line.split()
        if len(length) != 1 or not _LENGTH.fullmatch(length[0]):
            raise RecordingError(
                f"{text.file}: segment line {line!r} of a multi-segment record; expected 'record "
                "samples', such as '00001_0001 5000'; the header is damaged, restore it"
            )
        if not _is_beside(name):
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
    if not 0 < frames <= total or seconds > _LONGEST_S or fs > _HIGHEST_FS:
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
        with open(path + ".hea", "rb") as stream:
            # A record line is short, and the headers of a folder may be many.
            if not _MULTI_SEGMENT.match(stream.read(256)):
                return set()
        segments = _parse_segments(_read_text(path), folder)
    except (OSError, RecordingError):
        return set()
    return {os.path.basename(segment.path) for segment in segments if segment.path is not None}
