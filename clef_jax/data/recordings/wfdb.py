"""WFDB records to recordings, in millivolts, with canonical lead names."""

import dataclasses
import functools
import os
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from clef_jax.data.recordings.channels import MV_PER_UNIT, why_no_ecg
from clef_jax.data.recordings.opened import Fetch, OpenRecording, at_one_rate, ecg_positions
from clef_jax.data.recordings.recording import Hints, RecordingError
from clef_jax.data.recordings.units import amplitude_fault
from clef_jax.data.recordings.wfdb_header import read_header, read_segment_header, segments_of
from clef_jax.data.recordings.wfdb_samples import check_files, check_length, read_digital
from clef_jax.data.recordings.wfdb_types import Channel, WfdbHeader
from clef_jax.data.signals.leads import STANDARD_LEADS

# Whether a unit can be true is judged by stretches of a recording, spread over all of it.
_STRETCHES = 20
_STRETCH_S = 10.0

# The records of a database share their labels, which take as long to understand as the samples.
_why_no_ecg = functools.lru_cache(maxsize=64)(why_no_ecg)


def _millivolts(
    digital: np.ndarray, channel: Channel, adu_per_mv: float | None, file: str
) -> np.ndarray:
    if adu_per_mv is not None:
        return digital / adu_per_mv
    if channel.units.lower() not in MV_PER_UNIT:
        raise RecordingError(
            f"{file}: unit {channel.units!r} of lead {channel.label!r}; expected mV, uV, µV, nV or "
            "V after the gain, such as '1000(0)/mV'; correct the header or leave the lead out"
        )
    # Divided by the gain, not multiplied by its inverse: the band-pass is so ill-conditioned that a
    # difference in the last bit shows in an embedding's fourth digit.
    physical = (digital - float(channel.baseline)) / channel.gain
    return physical * MV_PER_UNIT[channel.units.lower()]


def _parts(header: WfdbHeader, first: int, last: int) -> Iterator[tuple[WfdbHeader, int, int, int]]:
    """Yields what of a record holds its frames from `first` to `last`; gaps hold nothing.

    Yields:
        The record itself or a segment, the frame where that begins, and where what is wanted of it
        begins and ends, all counted from the start of the whole.
    """
    if not header.segments:
        yield header, 0, first, last
    begin = 0
    for segment in header.segments:
        start, stop = max(first, begin), min(last, begin + segment.frames)
        if start < stop and segment.path is not None:
            yield read_segment_header(header, segment), begin, start, stop
        begin += segment.frames


def _channels_in(part: WfdbHeader, whole: WfdbHeader, positions: Sequence[int]) -> dict[int, int]:
    """Returns where in `positions` -> which channel of `part`, of the leads that it has."""
    if part.leads == whole.leads:
        found = dict(enumerate(positions))
    else:
        wanted = [whole.leads[i] for i in positions]
        found = {k: part.leads.index(lead) for k, lead in enumerate(wanted) if lead in part.leads}
    for k, i in found.items():
        expected = whole.channels[positions[k]].samples_per_frame
        if part.channels[i].samples_per_frame != expected:
            raise RecordingError(
                f"{part.path}.hea: {part.channels[i].samples_per_frame} samples of "
                f"{part.leads[i]} in a frame, but {expected} elsewhere in {whole.path}; expected "
                "the same in every segment; correct the headers"
            )
    return found


def _reader(header: WfdbHeader, channels: Sequence[int], adu_per_mv: float | None) -> Fetch:
    """Returns the function that reads some of a record's channels, by positions among them."""
    highest = header.samples_per_frame
    sizes = [header.channels[i].samples_per_frame for i in channels]

    def fetch_native(at: Sequence[int], first: int, last: int) -> np.ndarray:
        size = sizes[at[0]]
        begin, end = first // size, -(-last // size)
        signal_mv = np.full((len(at), (end - begin) * size), np.nan)
        for part, offset, here, there in _parts(header, begin, end):
            found = _channels_in(part, header, [channels[i] for i in at])
            digital = read_digital(part, list(found.values()), here - offset, there - offset)
            for (row, i), samples in zip(found.items(), digital, strict=True):
                samples_mv = _millivolts(samples, part.channels[i], adu_per_mv, part.path + ".hea")
                signal_mv[row, (here - begin) * size : (there - begin) * size] = samples_mv
        return signal_mv[:, first - begin * size : last - begin * size]

    fetch, _, _ = at_one_rate(
        fetch_native,
        [header.fs * size / highest for size in sizes],
        [header.samples * size // highest for size in sizes],
    )
    return fetch


def _units(header: WfdbHeader, hints: Hints) -> tuple[str, ...]:
    """Returns each channel's unit; that of a standard lead does not count where a gain was said."""
    return tuple(
        "mV"
        if hints.adu_per_mv is not None
        and lead in STANDARD_LEADS
        and channel.samples_per_frame <= header.samples_per_frame
        else channel.units
        for lead, channel in zip(header.leads, header.channels, strict=True)
    )


def open_wfdb(path: str, hints: Hints) -> OpenRecording:
    """Opens a WFDB record, of one or several segments.

    A lead that a segment lacks is missing there. Leads of other rates are brought to the highest.

    Args:
        path: The record, with or without .hea, .dat or .mat.
        hints: Digital units per mV.

    Raises:
        RecordingError: A file is missing, truncated or damaged, no channel is an ECG, or, when
            samples are read, the amplitudes betray a wrong unit; `RecordingUnavailable` where
            reading again may go well.
    """
    header = read_header(path)
    labels = tuple(channel.label for channel in header.channels)
    reasons = _why_no_ecg(labels, _units(header, hints))
    ecg, left_out = ecg_positions(header.path + ".hea", labels, reasons)
    if not header.segments:
        check_length(header, ecg)
    read_mv = _reader(header, ecg, hints.adu_per_mv)

    @functools.cache
    def unit_fault(positions: tuple[int, ...], units: str) -> str | None:
        size = min(header.samples, round(_STRETCH_S * header.fs))
        count = min(_STRETCHES, -(-header.samples // size))
        starts = np.linspace(0, header.samples - size, count).astype(int).tolist()
        pieces = (read_mv(positions, start, start + size) for start in starts)
        return amplitude_fault(pieces, units)

    def fetch(positions: Sequence[int], start: int, stop: int) -> np.ndarray:
        channels = [ecg[i] for i in positions]
        if not header.segments:
            check_files(header, channels)
        signal_mv = read_mv(positions, start, stop)
        units = "/".join(dict.fromkeys(header.channels[i].units for i in channels))
        # Of a recording in the right unit some stretches may be silent, or at the rail.
        if amplitude_fault([signal_mv], units) and (fault := unit_fault(tuple(positions), units)):
            raise RecordingError(f"{header.path}.hea: field gain/units: {fault}")
        return signal_mv

    leads = tuple(header.leads[i] for i in ecg)
    return OpenRecording(
        dataclasses.replace(header, leads=leads),
        fetch,
        left_out,
        functools.partial(_files_of, header),
    )


def _signal_files(header: WfdbHeader) -> list[str]:
    folder = os.path.dirname(header.path)
    return sorted({os.path.join(folder, channel.file) for channel in header.channels})


def _files_of(header: WfdbHeader) -> Iterator[str]:
    """Yields the files from which a record is read, each before it is looked into."""
    yield header.path + ".hea"
    if not header.segments:
        yield from _signal_files(header)
    for segment in header.segments:
        if segment.path is None:
            continue
        yield segment.path + ".hea"
        try:
            yield from _signal_files(read_segment_header(header, segment))
        except RecordingError:
            continue  # Nor can its samples be read.


def records_in(folder: str, headers: Collection[str]) -> set[str]:
    """Returns the WFDB records of a folder without those that are segments of another one.

    Args:
        folder: The folder.
        headers: The names, without suffix, of all headers in it.
    """
    if len(headers) < 2:
        return set(headers)
    segments = {name: segments_of(folder, name) for name in headers}
    whole = {name for name, parts in segments.items() if parts}
    return set(headers) - (set().union(*segments.values()) - whole)
