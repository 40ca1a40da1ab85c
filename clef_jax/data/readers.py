"""Files to recordings: WFDB headers and signals, in millivolts, with canonical lead names.

Headers are parsed here rather than by the wfdb package: it reads them as ASCII and drops what is
not, so that a gain in µV would silently become one in V, and its parser takes twenty times longer
than the samples. Format 16 (PTB-XL, MIMIC-IV-ECG, the Challenge's .mat) is read straight from the
file; every other storage format goes through wfdb.
"""

import dataclasses
import errno
import math
import os
import re
import warnings
from collections.abc import Sequence

import numpy as np
from absl import logging

from clef_jax.data.channels import MV_PER_UNIT
from clef_jax.data.leads import find_lead, name_leads

_MISSING_FORMAT_16 = -32768
_COMPRESSED_FORMATS = (508, 516, 524)
_DEFAULT_GAIN = 200.0
_DEFAULT_FS = 250.0
# 1 % to 99 % of a lead's samples. The weakest ECG spans 0.1 mV, the largest about 10 mV, an
# amplifier with 16 bits at 1 µV 65 mV; microvolts taken for millivolts give 100 and more.
_IMPLAUSIBLE_RANGE_MV = 100.0
# Peak to peak in every lead; the reverse mistake, millivolts taken for microvolts, gives 0.001.
_IMPLAUSIBLY_SMALL_MV = 0.02

_SIGNAL_SUFFIXES = (".hea", ".dat", ".mat")
_FORMAT = re.compile(r"(\d+)(?:x(\d+))?(?::(\d+))?(?:\+(\d+))?$")
_GAIN = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?:\(([+-]?\d+)\))?(?:/(\S+))?$")
_COMMENT_FIELD = re.compile(r"<?\s*([A-Za-z][A-Za-z_ ]*?)\s*>?\s*[:=]\s*(.*)$")
_MITDB_COMMENT = re.compile(r"(-?\d{1,3})\s+([MF?])\s")

_FAULTS_OF_THE_FILE = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)
# None: raised by a library for what it found in the file.
_CODES_OF_SUCH_FAULTS = (errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO, errno.EINVAL, None)


class RecordingError(ValueError):
    """A recording that cannot be read; the message names the file, the fault and the remedy."""


class RecordingUnavailable(RecordingError):
    """A recording that may be sound: the disk, the network or this process failed to read it."""


@dataclasses.dataclass(frozen=True)
class Channel:
    """One signal line of a WFDB header: where its samples are and what they mean."""

    file: str
    storage: int
    samples_per_frame: int
    skew: int
    byte_offset: int
    gain: float
    baseline: int
    units: str
    lead: str


@dataclasses.dataclass(frozen=True)
class Header:
    """What a recording says about itself, without its samples.

    Attributes:
        path: The record's path without suffix.
        fs: Sampling rate, Hz.
        leads: Canonical names, in the file's order.
        samples: Length per lead.
        patient: Identifier in the comments, if any.
        age: Years, if given.
        sex: "male", "female" or None.
        comments: The header's comment lines without "#".
        channels: How each lead is stored.
    """

    path: str
    fs: float
    leads: tuple[str, ...]
    samples: int
    patient: str | None
    age: float | None
    sex: str | None
    comments: tuple[str, ...]
    channels: tuple[Channel, ...] = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True)
class Recording:
    """The samples of a recording and what is known about it.

    Attributes:
        path: The record's path without suffix.
        signal_mv: float64 [leads, samples], mV; NaN where a sample is missing.
        fs: Sampling rate, Hz.
        leads: Canonical names, in the order of `signal_mv`.
        patient: Identifier in the header's comments, if any.
        age: Years, if given.
        sex: "male", "female" or None.
        comments: The header's comment lines.
    """

    path: str
    signal_mv: np.ndarray
    fs: float
    leads: tuple[str, ...]
    patient: str | None
    age: float | None
    sex: str | None
    comments: tuple[str, ...]


def parse_age(text: str) -> float | None:
    """Returns an age in years from table or header text, None where it is unknown or impossible.

    PTB-XL writes 300 for "over 89", others -1 or NaN for unknown: none of these is an age.
    """
    match = re.match(r"\s*(\d+(?:\.\d+)?)", text)
    age = float(match.group(1)) if match else math.nan
    return age if 0 <= age <= 120 else None


def parse_sex(text: str) -> str | None:
    """Returns "male" or "female" from "M", "Female", "f" …, None where it is neither."""
    return {"m": "male", "male": "male", "f": "female", "female": "female"}.get(
        text.strip().lower().rstrip(".")
    )


def _about_patient(comments: Sequence[str]) -> tuple[str | None, float | None, str | None]:
    patient = age = sex = None
    for comment in comments:
        field = _COMMENT_FIELD.match(comment)
        name = field.group(1).lower().replace("_", " ") if field else ""
        value = field.group(2).strip() if field else ""
        if name == "age" and age is None:
            age = parse_age(value)
        elif name in ("sex", "gender") and sex is None:
            sex = parse_sex(value)
        elif name in ("patient", "patient id", "subject", "subject id") and value:
            patient = patient or value
    # The MIT-BIH databases begin with "69 M 1085 1629 x1": age, sex, tape numbers.
    mitdb = _MITDB_COMMENT.match(comments[0] + " ") if comments else None
    if mitdb and age is None and sex is None:
        age, sex = parse_age(mitdb.group(1)), parse_sex(mitdb.group(2))
    return patient, age, sex


def _may_pass(error: OSError) -> bool:
    """Says whether an error is of the moment (EIO, ESTALE, EMFILE …) or lies in the file."""
    return not isinstance(error, _FAULTS_OF_THE_FILE) and error.errno not in _CODES_OF_SUCH_FAULTS


def _unreadable(what: str, error: OSError, remedy: str) -> RecordingError:
    reason = error.strerror or str(error)
    if _may_pass(error):
        return RecordingUnavailable(f"{what} cannot be read now ({reason}); try again")
    return RecordingError(f"{what} cannot be read ({reason}); {remedy}")


def _record_path(path: str | os.PathLike) -> str:
    path = os.fspath(path)
    stem, suffix = os.path.splitext(path)
    return stem if suffix.lower() in _SIGNAL_SUFFIXES else path


def _parse_record_line(line: str, file: str) -> tuple[int, float, int | None]:
    fields = line.split()
    if "/" in fields[0]:
        raise RecordingError(
            f"{file}: a multi-segment record ({fields[0]!r}); give its segments one by one, or "
            "join them with wfdb.rdrecord and wfdb.wrsamp"
        )
    try:
        n_channels = int(fields[1])
        fs = float(re.split(r"[/(]", fields[2])[0]) if len(fields) > 2 else _DEFAULT_FS
        samples = int(fields[3]) if len(fields) > 3 else None
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
    return n_channels, fs, samples or None


def _parse_channel(line: str, number: int, file: str) -> Channel:
    # Eight fields, then a description that may hold blanks; trailing fields may be absent.
    fields = line.split(None, 8)
    storage = _FORMAT.match(fields[1]) if len(fields) > 1 else None
    gain = _GAIN.match(fields[2]) if len(fields) > 2 else None
    if storage is None or (len(fields) > 2 and gain is None):
        raise RecordingError(
            f"{file}: signal line {line!r}; expected 'file format gain(baseline)/units …', such as "
            "'00001.dat 16 1000(0)/mV 16 0 -115 13047 0 II'; the header is damaged, restore it"
        )
    if os.path.basename(fields[0]) != fields[0]:
        raise RecordingError(
            f"{file}: signal file {fields[0]!r} lies outside the record's folder; refused: signal "
            "files are expected beside their header"
        )
    try:
        adc_zero = int(fields[4]) if len(fields) > 4 else 0
    except ValueError:
        raise RecordingError(
            f"{file}: ADC zero {fields[4]!r} in signal line {line!r}; expected a whole number; "
            "the header is damaged, restore it"
        ) from None
    value, baseline, units = gain.groups() if gain else (None, None, None)
    name = fields[8] if len(fields) > 8 else f"signal {number}"
    return Channel(
        file=fields[0],
        storage=int(storage.group(1)),
        samples_per_frame=int(storage.group(2) or 1),
        skew=int(storage.group(3) or 0),
        byte_offset=int(storage.group(4) or 0),
        # By the WFDB format a gain of 0 means "uncalibrated", to be taken as the default.
        gain=float(value or 0) or _DEFAULT_GAIN,
        baseline=adc_zero if baseline is None else int(baseline),
        units=units or "mV",
        lead=name,
    )


def _length_from_files(channels: Sequence[Channel], folder: str, file: str) -> int:
    first = channels[0]
    if first.storage != 16:
        raise RecordingError(
            f"{file}: no number of samples in the record line; expected one as the fourth field; "
            "add it"
        )
    frame = sum(c.samples_per_frame for c in channels if c.file == first.file)
    try:
        size = os.path.getsize(os.path.join(folder, first.file))
    except OSError as error:
        raise _missing_signal_file(file, first.file, error) from error
    return (size - first.byte_offset) // (2 * frame)


def _missing_signal_file(header: str, name: str, error: OSError) -> RecordingError:
    return _unreadable(f"{header}: its signal file {name!r}", error, "restore it beside the header")


def _refuse_truncated(header: Header) -> None:
    """Compares the sizes of the signal files with the header, before memory is taken by it."""
    channels_of: dict[str, list[Channel]] = {}
    for channel in header.channels:
        channels_of.setdefault(channel.file, []).append(channel)
    for name, channels in channels_of.items():
        storage = channels[0].storage
        if storage in _COMPRESSED_FORMATS:
            continue
        file = os.path.join(os.path.dirname(header.path), name)
        try:
            size = os.path.getsize(file)
        except OSError as error:
            raise _missing_signal_file(header.path + ".hea", name, error) from error
        # No format packs a sample into less than a byte; how many exactly, wfdb knows.
        width = sum(c.samples_per_frame for c in channels) * (2 if storage == 16 else 1)
        room = max(size - channels[0].byte_offset, 0) // width
        if room < header.samples:
            raise RecordingError(
                f"{file}: truncated: room for {room} samples per lead, but "
                f"{os.path.basename(header.path)}.hea declares {header.samples}; copy or "
                "download the file again"
            )


def read_header(path: str | os.PathLike) -> Header:
    """Reads a WFDB header alone.

    Args:
        path: The record, with or without .hea, .dat or .mat.

    Raises:
        RecordingError: The header is missing, damaged, or of a multi-segment record;
            `RecordingUnavailable` where reading it again may go well.
    """
    record = _record_path(path)
    file = record + ".hea"
    try:
        with open(file, "rb") as stream:
            content = stream.read()
    except OSError as error:
        raise _unreadable(
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
    n_channels, fs, samples = _parse_record_line(lines[0], file)
    if len(lines) - 1 != n_channels:
        raise RecordingError(
            f"{file}: {len(lines) - 1} signal lines, but the record line declares {n_channels}; "
            "the header is damaged, restore it"
        )
    channels = [_parse_channel(line, i, file) for i, line in enumerate(lines[1:])]
    names = name_leads([channel.lead for channel in channels])
    channels = tuple(
        dataclasses.replace(channel, lead=name)
        for channel, name in zip(channels, names, strict=True)
    )
    if samples is None:
        samples = _length_from_files(channels, os.path.dirname(file), file)
    patient, age, sex = _about_patient(comments)
    return Header(
        path=record,
        fs=fs,
        leads=names,
        samples=samples,
        patient=patient,
        age=age,
        sex=sex,
        comments=comments,
        channels=channels,
    )


def _read_format_16(header: Header, start: int, stop: int) -> np.ndarray:
    """Returns the digital samples, float64 [channels, stop - start], NaN where missing."""
    columns_of: dict[str, list[int]] = {}
    for i, channel in enumerate(header.channels):
        columns_of.setdefault(channel.file, []).append(i)
    samples = np.empty((len(header.channels), stop - start))
    for name, rows in columns_of.items():
        file = os.path.join(os.path.dirname(header.path), name)
        offset, width = header.channels[rows[0]].byte_offset, len(rows)
        try:
            with open(file, "rb") as stream:
                stream.seek(offset + 2 * width * start)
                # np.fromfile would return what it got of a failing disk; this raises.
                content = stream.read(2 * width * (stop - start))
        except OSError as error:
            raise _missing_signal_file(header.path + ".hea", name, error) from error
        digital = np.frombuffer(content, "<i2").reshape(stop - start, width).T
        samples[rows] = np.where(digital == _MISSING_FORMAT_16, np.nan, digital)
    return samples


def _read_by_wfdb(header: Header, start: int, stop: int) -> np.ndarray:
    """Returns the digital samples, float64 [channels, stop - start], NaN where missing."""
    try:
        # Imported here because it is slow to, and because wfdb warns on import under pandas 3.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import wfdb

            record = wfdb.rdrecord(header.path, sampfrom=start, sampto=stop)
    except MemoryError:
        raise
    except Exception as error:  # wfdb raises whatever its parsing of a damaged file runs into
        files = ", ".join(sorted({channel.file for channel in header.channels}))
        if isinstance(error, OSError):
            raise _missing_signal_file(header.path + ".hea", files, error) from error
        raise RecordingError(
            f"{header.path}: signal file {files} cannot be read as declared in its "
            f"header ({type(error).__name__}: {error}); it is missing, truncated or damaged, copy "
            "or download it again"
        ) from error
    physical = record.p_signal.T
    gain = np.array(record.adc_gain)[:, None]
    return physical * gain + np.array(record.baseline)[:, None]


def _millivolts_per_unit(channel: Channel, file: str) -> float:
    try:
        return MV_PER_UNIT[channel.units.lower()]
    except KeyError:
        raise RecordingError(
            f"{file}: unit {channel.units!r} of lead {channel.lead!r}; expected mV, uV, µV, nV or "
            "V after the gain, such as '1000(0)/mV'; correct the header or leave the lead out"
        ) from None


def _check_amplitude(signal_mv: np.ndarray, channels: Sequence[Channel], file: str) -> None:
    """Refuses amplitudes that only a wrong unit in the header explains."""
    usable = [x[np.isfinite(x)] for x in signal_mv]
    ranges = np.array([np.ptp(x) for x in usable if x.size])
    if not ranges.size:
        return
    units = "/".join(dict.fromkeys(channel.units for channel in channels))
    if np.median(ranges) > _IMPLAUSIBLE_RANGE_MV:
        # Single spikes of an otherwise sound recording are no unit mistake.
        spread = np.median([np.ptp(np.percentile(x, [1, 99])) for x in usable if x.size])
        if spread > _IMPLAUSIBLE_RANGE_MV:
            raise RecordingError(
                f"{file}: field gain/units: declared in {units}, the leads span {spread:.0f} mV; "
                "expected 0.1 to 10 mV: the samples are probably µV; write /uV as the unit or "
                "multiply the gain by 1000 in the header"
            )
    elif 0 < ranges.max() < _IMPLAUSIBLY_SMALL_MV and units.lower() != "mv":
        raise RecordingError(
            f"{file}: field gain/units: declared in {units}, the leads span at most "
            f"{ranges.max():.5f} mV; expected 0.1 to 10 mV: the samples are probably mV; write /mV "
            "as the unit in the header"
        )


def read_signal(
    header: Header,
    *,
    leads: Sequence[str] | None = None,
    start: int = 0,
    stop: int | None = None,
    adu_per_mv: float | None = None,
) -> Recording:
    """Reads the samples that a header describes; arguments and errors as of `read_recording`."""
    file = header.path + ".hea"
    stop = header.samples if stop is None else min(stop, header.samples)
    if not 0 <= start < stop:
        raise RecordingError(
            f"{file}: samples {start} to {stop} asked for, but the record has {header.samples}; "
            "ask for a range within it"
        )
    _refuse_truncated(header)
    wanted = range(len(header.leads))
    if leads is not None:
        wanted = [find_lead(name, header.leads) for name in leads]
        if absent := [name for name, at in zip(leads, wanted, strict=True) if at is None]:
            raise RecordingError(
                f"{file}: lead {', '.join(absent)} not found; the record has "
                f"{', '.join(header.leads)}; ask for one of these"
            )
    plain = all(
        c.storage == 16 and c.samples_per_frame == 1 and c.skew == 0 for c in header.channels
    )
    digital = (_read_format_16 if plain else _read_by_wfdb)(header, start, stop)
    channels = [header.channels[i] for i in wanted]
    signal_mv = digital[wanted]
    if adu_per_mv is None:
        # Divided by the gain, not multiplied by its inverse: the band-pass is so ill-conditioned
        # that a difference in the last bit shows in an embedding's fourth digit.
        signal_mv -= np.array([float(c.baseline) for c in channels])[:, None]
        signal_mv /= np.array([c.gain for c in channels])[:, None]
        signal_mv *= np.array([_millivolts_per_unit(c, file) for c in channels])[:, None]
    else:
        signal_mv /= adu_per_mv
    _check_amplitude(signal_mv, channels, file)
    return Recording(
        path=header.path,
        signal_mv=signal_mv,
        fs=header.fs,
        leads=tuple(channel.lead for channel in channels),
        patient=header.patient,
        age=header.age,
        sex=header.sex,
        comments=header.comments,
    )


def read_recording(
    path: str | os.PathLike,
    *,
    leads: Sequence[str] | None = None,
    start: int = 0,
    stop: int | None = None,
    adu_per_mv: float | None = None,
) -> Recording:
    """Reads a single-segment WFDB record.

    Args:
        path: The record, with or without .hea, .dat or .mat.
        leads: The leads wanted, by any usual spelling, in the order wanted; all when None.
        start: First sample, at the record's own rate.
        stop: One past the last sample; the end when None or beyond it.
        adu_per_mv: Digital units per mV, in place of the header's gains and baselines. LUDB (1000)
            needs it: its headers stretch every lead to 1 mV peak to peak.

    Returns:
        The recording, in mV.

    Raises:
        RecordingError: A file is missing, truncated or damaged, a lead or unit is unknown, or the
            amplitudes betray a wrong unit; `RecordingUnavailable` where reading again may go well.
    """
    return read_signal(
        read_header(path), leads=leads, start=start, stop=stop, adu_per_mv=adu_per_mv
    )


def find_recordings(folder: str | os.PathLike) -> list[str]:
    """Returns the paths, without suffix, of all WFDB records in a folder and below, sorted.

    Folders that may not be entered are left out with a warning.

    Raises:
        OSError: A folder cannot be listed now, though it may be later.
    """

    def warn_or_raise(error: OSError) -> None:
        if _may_pass(error):
            raise error
        logging.warning("Left out a folder that cannot be listed: %s", error)

    found = []
    for parent, folders, files in os.walk(folder, onerror=warn_or_raise):
        folders.sort()
        found.extend(os.path.join(parent, name[:-4]) for name in files if name.endswith(".hea"))
    return sorted(found)
