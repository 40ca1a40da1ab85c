"""WFDB records to recordings, in millivolts, with canonical lead names."""

import os
from collections.abc import Iterator, Sequence

import numpy as np
from absl import logging

from clef_jax.data.recordings.channels import MV_PER_UNIT
from clef_jax.data.recordings.opened import OpenRecording, at_one_rate
from clef_jax.data.recordings.recording import (
    Channel,
    Header,
    Recording,
    RecordingError,
    may_pass,
)
from clef_jax.data.recordings.wfdb_header import read_header, read_segment_header, segments_of
from clef_jax.data.recordings.wfdb_samples import check_files, read_digital

# 1 % to 99 % of a lead's samples. The weakest ECG spans 0.1 mV, the largest about 10 mV, an
# amplifier with 16 bits at 1 µV 65 mV; microvolts taken for millivolts give 100 and more.
_IMPLAUSIBLE_RANGE_MV = 100.0
# Peak to peak in every lead; the reverse mistake, millivolts taken for microvolts, gives 0.001.
_IMPLAUSIBLY_SMALL_MV = 0.02


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


def _check_amplitude(signal_mv: np.ndarray, units: str, file: str) -> None:
    """Refuses amplitudes that only a wrong unit in the header explains."""
    usable = [x[np.isfinite(x)] for x in signal_mv]
    ranges = np.array([np.ptp(x) for x in usable if x.size])
    if not ranges.size:
        return
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


def _parts(header: Header, first: int, last: int) -> Iterator[tuple[Header, int, int, int]]:
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


def _channels_in(part: Header, whole: Header, positions: Sequence[int]) -> dict[int, int]:
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


def read_positions(
    header: Header,
    positions: Sequence[int],
    start: int,
    stop: int,
    adu_per_mv: float | None = None,
) -> np.ndarray:
    """Reads leads by their positions among `header.leads`; errors as of `read_recording`.

    Returns:
        float64 [positions, stop - start], mV, at `header.fs`.
    """
    highest = header.samples_per_frame
    faster = [i for i in positions if header.channels[i].samples_per_frame > highest]
    if faster:
        raise RecordingError(
            f"{header.path}.hea: {', '.join(header.leads[i] for i in faster)} is no ECG by name or "
            f"unit, and has a higher rate than the ECG leads ({header.fs:g} Hz); ask for the others"
        )
    if not header.segments:
        check_files(header, positions)
    sizes = [min(channel.samples_per_frame, highest) for channel in header.channels]
    units: dict[str, None] = {}

    def fetch_native(at: Sequence[int], first: int, last: int) -> np.ndarray:
        size = sizes[at[0]]
        begin, end = first // size, -(-last // size)
        signal_mv = np.full((len(at), (end - begin) * size), np.nan)
        for part, offset, here, there in _parts(header, begin, end):
            found = _channels_in(part, header, at)
            digital = read_digital(part, list(found.values()), here - offset, there - offset)
            for (row, i), samples in zip(found.items(), digital, strict=True):
                channel = part.channels[i]
                units[channel.units] = None
                samples_mv = _millivolts(samples, channel, adu_per_mv, part.path + ".hea")
                signal_mv[row, (here - begin) * size : (there - begin) * size] = samples_mv
        return signal_mv[:, first - begin * size : last - begin * size]

    fetch, _, _ = at_one_rate(
        fetch_native,
        [header.fs * size / highest for size in sizes],
        [header.samples * size // highest for size in sizes],
    )
    signal_mv = fetch(positions, start, stop)
    _check_amplitude(signal_mv, "/".join(units), header.path + ".hea")
    return signal_mv


def read_signal(
    header: Header,
    *,
    leads: Sequence[str] | None = None,
    start: int = 0,
    stop: int | None = None,
    adu_per_mv: float | None = None,
) -> Recording:
    """Reads the samples that a header describes; arguments and errors as of `read_recording`."""

    def fetch(positions: Sequence[int], start: int, stop: int) -> np.ndarray:
        return read_positions(header, positions, start, stop, adu_per_mv)

    return OpenRecording(header, fetch).read(leads=leads, start=start, stop=stop)


def read_recording(
    path: str | os.PathLike,
    *,
    leads: Sequence[str] | None = None,
    start: int = 0,
    stop: int | None = None,
    adu_per_mv: float | None = None,
) -> Recording:
    """Reads a WFDB record, of one or several segments.

    Args:
        path: The record, with or without .hea, .dat or .mat.
        leads: The leads wanted, by any usual spelling, in the order wanted; all when None.
        start: First sample, at the highest rate of its ECG leads, to which the others are brought.
        stop: One past the last sample; the end when None or beyond it.
        adu_per_mv: Digital units per mV, in place of the header's gains and baselines. LUDB (1000)
            needs it: its headers stretch every lead to 1 mV peak to peak.

    Returns:
        The recording, in mV; a lead that a segment lacks is missing there.

    Raises:
        RecordingError: A file is missing, truncated or damaged, a lead or unit is unknown, or the
            amplitudes betray a wrong unit; `RecordingUnavailable` where reading again may go well.
    """
    return read_signal(
        read_header(path), leads=leads, start=start, stop=stop, adu_per_mv=adu_per_mv
    )


def _signal_files(header: Header) -> list[str]:
    folder = os.path.dirname(header.path)
    return sorted({os.path.join(folder, channel.file) for channel in header.channels})


def files_of(header: Header, stop: int) -> Iterator[str]:
    """Yields the files from which a record is read up to the sample `stop`, each before it is."""
    yield header.path + ".hea"
    if not header.segments:
        yield from _signal_files(header)
    begin = 0
    for segment in header.segments:
        if segment.path is not None and begin * header.samples_per_frame < stop:
            yield segment.path + ".hea"
            if segment.frames:
                yield from _signal_files(read_segment_header(header, segment))
        begin += segment.frames


def _records_in(folder: str, names: set[str]) -> set[str]:
    """Leaves out the records that are segments of another one, which is read as a whole."""
    if len(names) < 2:
        return names
    segments = {name: segments_of(folder, name) for name in names}
    whole = {name for name, parts in segments.items() if parts}
    return names - (set().union(*segments.values()) - whole)


def find_recordings(folder: str | os.PathLike) -> list[str]:
    """Returns the paths, without suffix, of all WFDB records in a folder and below, sorted.

    The segments of a multi-segment record are not listed beside it. Folders that may not be entered
    are left out with a warning.

    Raises:
        OSError: A folder cannot be listed now, though it may be later.
    """

    def warn_or_raise(error: OSError) -> None:
        if may_pass(error):
            raise error
        logging.warning("Left out a folder that cannot be listed: %s", error)

    found: list[str] = []
    for parent, folders, files in os.walk(os.fspath(folder), onerror=warn_or_raise):
        folders.sort()
        names = {name.removesuffix(".hea") for name in files if name.endswith(".hea")}
        found.extend(os.path.join(parent, name) for name in _records_in(parent, names))
    return sorted(found)
