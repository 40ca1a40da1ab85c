"""WFDB signal files: the digital samples of a record without segments.

Every storage format is read straight from the file, but for the compressed ones, which go through
the wfdb package. The formats: https://physionet.org/physiotools/wag/signal-5.htm
"""

import os
import warnings
from collections.abc import Sequence

import numpy as np

from clef_jax.data.recordings.recording import LONGEST_S, RecordingError, unreadable
from clef_jax.data.recordings.wfdb_types import Channel, WfdbHeader
from clef_jax.files import stat_regular

# Samples and bytes of a block, the smallest whole number of bytes that holds whole samples.
_BLOCKS = {
    8: (1, 1),
    16: (1, 2),
    24: (1, 3),
    32: (1, 4),
    61: (1, 2),
    80: (1, 1),
    160: (1, 2),
    212: (2, 3),
    310: (3, 4),
    311: (3, 4),
}
_COMPRESSED = (508, 516, 524)
# Silence compresses best: 65,535 equal samples to 11 bytes of FLAC.
_MOST_SAMPLES_OF_A_BYTE = 8192
_DIFFERENCES = 8
_NO_SAMPLES = 0
# The lowest value of each format stands for a missing sample; differences have no such value.
_BITS = {16: 16, 24: 24, 32: 32, 61: 16, 80: 8, 160: 16, 212: 12, 310: 10, 311: 10}
_BITS |= {508: 8, 516: 16, 524: 24}


def _signed(values: np.ndarray, bits: int) -> np.ndarray:
    half = 1 << (bits - 1)
    return (values ^ half) - half


def _unpack(content: bytes, storage: int) -> np.ndarray:
    """Returns the samples of whole blocks."""
    plain = {8: "i1", 16: "<i2", 32: "<i4", 61: ">i2", 80: "u1", 160: "<u2"}
    if storage in plain:
        values = np.frombuffer(content, plain[storage])
        offset = {80: 2**7, 160: 2**15}.get(storage)
        return values if offset is None else values.astype(np.int32) - offset
    if storage in (24, 212):
        low, middle, high = np.frombuffer(content, "u1").reshape(-1, 3).astype(np.int32).T
        if storage == 24:
            return _signed(low | middle << 8 | high << 16, 24)
        pairs = np.stack([low | (middle & 15) << 8, high | (middle >> 4) << 8], axis=-1)
        return _signed(pairs.ravel(), 12)
    if storage == 310:
        first, second = np.frombuffer(content, "<u2").reshape(-1, 2).astype(np.int32).T
        third = first >> 11 | (second >> 11) << 5
        triples = np.stack([first >> 1 & 1023, second >> 1 & 1023, third], axis=-1)
    else:
        word = np.frombuffer(content, "<u4")
        triples = np.stack([word >> shift & 1023 for shift in (0, 10, 20)], axis=-1)
    return _signed(triples.ravel().astype(np.int32), 10)


def _room(size: int, storage: int) -> int:
    """Returns how many samples so many bytes hold."""
    per_block, block_size = _BLOCKS[storage]
    blocks, rest = divmod(max(size, 0), block_size)
    part = rest * per_block // block_size
    # The second sample of format 310 reaches into the block's last byte.
    return blocks * per_block + (min(part, 1) if storage == 310 else part)


def _columns_by_file(channels: Sequence[Channel]) -> dict[str, list[int]]:
    columns: dict[str, list[int]] = {}
    for i, channel in enumerate(channels):
        columns.setdefault(channel.file, []).append(i)
    return columns


def _missing_file(header: str, name: str, error: OSError) -> RecordingError:
    return unreadable(f"{header}: its signal file {name!r}", error, "restore it beside the header")


def frames_in_file(channels: Sequence[Channel], folder: str, header: str) -> int:
    """Returns the length of a record whose header does not say it, from its first signal file.

    Args:
        channels: The record's channels.
        folder: Where its files are.
        header: Path of the header, for messages.

    Raises:
        RecordingError: The file is missing, or compressed.
    """
    first = next(channel for channel in channels if channel.storage != _NO_SAMPLES)
    if first.storage not in _BLOCKS:
        raise RecordingError(
            f"{header}: no number of samples in the record line, which storage format "
            f"{first.storage} needs; expected one as the fourth field; add it"
        )
    try:
        size = stat_regular(os.path.join(folder, first.file)).st_size
    except OSError as error:
        raise _missing_file(header, first.file, error) from error
    width = sum(c.samples_per_frame for c in channels if c.file == first.file)
    return _room(size - first.byte_offset, first.storage) // width


def check_length(header: WfdbHeader, rows: Sequence[int]) -> None:
    """Requires that one signal file of some channels, at least, bears out the declared length.

    What is planned by the length (windows, memory) must not rest on the header's word alone.

    Raises:
        RecordingError: No file does, or the samples of none of the channels are stored.
    """
    if header.samples > LONGEST_S * header.fs:
        raise RecordingError(
            f"{header.path}.hea: declares {header.samples} samples at {header.fs:g} Hz, more than "
            "a year; the header is damaged, restore it"
        )
    wanted = {name: [i for i in at if i in rows] for name, at in _columns_of_stored(header).items()}
    faults = []
    for columns in filter(None, wanted.values()):
        try:
            check_files(header, columns)
            return
        except RecordingError as fault:
            faults.append(fault)
    if faults:
        raise faults[0]
    raise RecordingError(
        f"{header.path}.hea: stores no samples of its ECG leads (storage format {_NO_SAMPLES}); "
        "correct the header"
    )


def _columns_of_stored(header: WfdbHeader) -> dict[str, list[int]]:
    columns = _columns_by_file(header.channels)
    stored = {
        name: [i for i in of_file if header.channels[i].storage != _NO_SAMPLES]
        for name, of_file in columns.items()
    }
    return {name: of_file for name, of_file in stored.items() if of_file}


def check_files(header: WfdbHeader, rows: Sequence[int]) -> None:
    """Compares the signal files of channels with the header, before memory is taken by it.

    Raises:
        RecordingError: A file is missing, truncated, or of no known format.
    """
    for name, columns in _columns_by_file(header.channels).items():
        formats = {header.channels[i].storage for i in columns}
        if formats != {_NO_SAMPLES} and any(i in rows for i in columns):
            _check_file(header, name, columns, formats)


def _check_file(header: WfdbHeader, name: str, columns: Sequence[int], formats: set[int]) -> None:
    channels = [header.channels[i] for i in columns]
    storage = channels[0].storage
    if len(formats) > 1 or storage not in (*_BLOCKS, *_COMPRESSED):
        raise RecordingError(
            f"{header.path}.hea: storage format {', '.join(map(str, sorted(formats)))} of {name}; "
            f"expected one, of {', '.join(map(str, (*_BLOCKS, *_COMPRESSED)))}; correct the header"
        )
    file = os.path.join(os.path.dirname(header.path), name)
    try:
        size = stat_regular(file).st_size
    except OSError as error:
        raise _missing_file(header.path + ".hea", name, error) from error
    width = sum(c.samples_per_frame for c in channels)
    if storage in _COMPRESSED:
        room = size * _MOST_SAMPLES_OF_A_BYTE // width
    else:
        room = _room(size - channels[0].byte_offset, storage) // width
    frames = header.samples // header.samples_per_frame
    if room < frames:
        raise RecordingError(
            f"{file}: truncated: room for {room} samples per lead, but "
            f"{os.path.basename(header.path)}.hea declares {frames}; copy or download the file "
            "again"
        )


def _read_plain(
    header: WfdbHeader, name: str, columns: Sequence[int], first: int, last: int
) -> np.ndarray:
    """Returns the frames [first, last) of one file: [frames, samples of all its channels]."""
    channels = [header.channels[i] for i in columns]
    per_block, block_size = _BLOCKS[channels[0].storage]
    width = sum(c.samples_per_frame for c in channels)
    begin, end = first * width, last * width
    block = begin // per_block
    size = (-(-end // per_block) - block) * block_size
    try:
        with open(os.path.join(os.path.dirname(header.path), name), "rb") as stream:
            stream.seek(channels[0].byte_offset + block * block_size)
            # np.fromfile would return what it got of a failing disk; this raises.
            content = stream.read(size)
    except OSError as error:
        raise _missing_file(header.path + ".hea", name, error) from error
    # A file may end within its last block.
    samples = _unpack(content.ljust(size, b"\0"), channels[0].storage)
    begin -= block * per_block
    return samples[begin : begin + (last - first) * width].reshape(-1, width)


def _read_compressed(
    header: WfdbHeader, name: str, columns: Sequence[int], first: int, last: int
) -> np.ndarray:
    """Returns what `_read_plain` does."""
    try:
        # Imported here because it is slow to, and because wfdb warns on import under pandas 3.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import wfdb

            record = wfdb.rdrecord(
                header.path,
                sampfrom=first,
                sampto=last,
                channels=list(columns),
                physical=False,
                smooth_frames=False,
                ignore_skew=True,
            )
    except MemoryError:
        raise
    except Exception as error:  # wfdb raises whatever its parsing of a damaged file runs into
        if isinstance(error, OSError):
            raise _missing_file(header.path + ".hea", name, error) from error
        raise RecordingError(
            f"{header.path}: signal file {name} cannot be read as declared in its header "
            f"({type(error).__name__}: {error}); it is missing, truncated or damaged, copy or "
            "download it again"
        ) from error
    return np.concatenate([x.reshape(last - first, -1) for x in record.e_d_signal], axis=1)


def _samples_of(channel: Channel, stored: np.ndarray, first: int, last: int) -> np.ndarray:
    """Returns frames of one channel, float64, NaN where missing, from [frames, its samples]."""
    values = stored.ravel().astype(np.float64)
    if channel.storage == _DIFFERENCES:
        values = float(channel.initial) + np.cumsum(values)
    else:
        values[values == -(2 ** (_BITS[channel.storage] - 1))] = np.nan
    size = channel.samples_per_frame
    values = values[(first + channel.skew) * size : (last + channel.skew) * size]
    # The last samples of a channel with a skew lie beyond the file's end.
    beyond = (last - first) * size - len(values)
    return np.pad(values, (0, beyond), constant_values=np.nan) if beyond else values


def read_digital(
    header: WfdbHeader, rows: Sequence[int], first: int, last: int
) -> list[np.ndarray]:
    """Reads samples of a record without segments, each channel's at its own rate.

    Args:
        header: The record.
        rows: Positions of the channels wanted.
        first: First frame.
        last: One past the last frame.

    Returns:
        For each of `rows` float64 [(last - first) · samples_per_frame], digital units; NaN where
        a sample is missing.

    Raises:
        RecordingError: A signal file is missing, truncated, damaged or of no known format.
    """
    check_files(header, rows)
    frames = header.samples // header.samples_per_frame
    found: dict[int, np.ndarray] = {}
    for name, columns in _columns_by_file(header.channels).items():
        wanted = [i for i in columns if i in rows]
        storage = header.channels[columns[0]].storage
        if not wanted:
            continue
        if storage == _NO_SAMPLES:
            nothing = {i: header.channels[i].samples_per_frame * (last - first) for i in wanted}
            found |= {i: np.full(size, np.nan) for i, size in nothing.items()}
            continue
        # Differences add up from the beginning.
        begin = 0 if storage == _DIFFERENCES else first
        end = min(last + max(header.channels[i].skew for i in wanted), frames)
        read = _read_compressed if storage in _COMPRESSED else _read_plain
        stored = read(header, name, columns, begin, end)
        edge = 0
        for i in columns:
            channel = header.channels[i]
            if i in wanted:
                mine = stored[:, edge : edge + channel.samples_per_frame]
                found[i] = _samples_of(channel, mine, first - begin, last - begin)
            edge += channel.samples_per_frame
    return [found[i] for i in rows]
