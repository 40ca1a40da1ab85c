"""Recordings to preprocessed windows: which leads, which windows, and the encoder's input for each.

This is what the reading processes run, so it imports neither jax nor the models.
"""

import dataclasses
import math
import time
from collections.abc import Sequence

import numpy as np
from absl import logging

from clef_jax.data.recordings.opened import OpenRecording
from clef_jax.data.recordings.recording import RecordingError
from clef_jax.data.signals import preprocessing, quality
from clef_jax.data.signals.leads import STANDARD_LEADS, find_lead, is_unnamed
from clef_jax.data.signals.rates import rate_fault, rate_remedy
from clef_jax.data.signals.spec import PREPROCESSING, PreprocessingSpec
from clef_jax.data.signals.spikes import remove_spikes
from clef_jax.errors import ClefError

DEFAULT_LEAD = "I"
ALL_LEADS = "all"
# Of a recording shorter than the window, what is enough to pad: the band-pass settles within it.
_SHORTEST_PADDED_S = 1.0
# What this process has said already of channels left out.
_mentioned: set[tuple[str, ...]] = set()


class WindowError(ClefError):
    """Windows that nothing can be cut into; the message says which can be asked for."""


@dataclasses.dataclass(frozen=True)
class WindowSettings:
    """Which windows of which leads are wanted.

    Attributes:
        leads: Names in order of preference, of which the first found is taken; ("all",) for every
            lead; None for lead I, or the only lead of a recording that does not name it.
        window_s: Length of a window, seconds.
        stride_s: From one window's start to the next, seconds.
        pad: Whether a recording shorter than one window is padded with zeros after z-scoring.
        channels: Leads that the encoder sees at once; beyond 1, `leads` names all of them.
    """

    leads: tuple[str, ...] | None = None
    window_s: float = PREPROCESSING.seconds
    stride_s: float = PREPROCESSING.seconds
    pad: bool = False
    channels: int = 1

    def __post_init__(self):
        if not (self.window_s >= _SHORTEST_PADDED_S and self.stride_s > 0):
            raise WindowError(
                f"windows of {self.window_s} s every {self.stride_s} s; expected windows of at "
                f"least {_SHORTEST_PADDED_S:g} s and a positive stride"
            )

    @property
    def spec(self) -> PreprocessingSpec:
        """The preprocessing of one window: the shared spec at this window's length."""
        samples = round(self.window_s * PREPROCESSING.fs)
        return dataclasses.replace(PREPROCESSING, samples=samples)


@dataclasses.dataclass
class Windows:
    """Preprocessed windows of one recording, a row for each (window, lead).

    Attributes:
        x: float32 [rows, samples, channels], z-scored: the encoder's input.
        lead: Lead of each row.
        start_s: float64 [rows], where each window begins in the recording.
        quality: Of each row: "ok", "noise", "clipped", "saturated", "spikes", "flat",
            "non-finite" or "padded".
        fs: The recording's own rate, Hz.
        read_s: Seconds spent reading.
        preprocess_s: Seconds spent preprocessing.
    """

    x: np.ndarray
    lead: list[str]
    start_s: np.ndarray
    quality: list[str]
    fs: float
    read_s: float = 0.0
    preprocess_s: float = 0.0


def choose_leads(
    found: Sequence[str], settings: WindowSettings, path: str, left_out_remark: str = ""
) -> list[int]:
    """Returns the positions of the leads to embed.

    Args:
        found: The recording's leads, as `name_leads` makes them.
        settings: What is wanted.
        path: For the error message.
        left_out_remark: As of `OpenRecording`, for the error message.

    Raises:
        RecordingError: None, or for an encoder of several leads not all, of the wanted are there.
    """
    have = ", ".join(found)
    if settings.channels > 1:
        default = STANDARD_LEADS if settings.channels == len(STANDARD_LEADS) else ()
        wanted = settings.leads or default
        if len(wanted) != settings.channels:
            raise RecordingError(
                f"{path}: the encoder sees {settings.channels} leads at once, but {len(wanted)} "
                "were named; name each of them in the encoder's order"
            )
        positions = [find_lead(name, found) for name in wanted]
        if absent := [name for name, at in zip(wanted, positions, strict=True) if at is None]:
            raise RecordingError(
                f"{path}: no lead {', '.join(absent)}; the recording has {have}{left_out_remark}"
            )
        return positions
    if settings.leads == (ALL_LEADS,):
        return list(range(len(found)))
    if settings.leads is None and len(found) == 1 and is_unnamed(found[0]):
        return [0]
    wanted = settings.leads or (DEFAULT_LEAD,)
    for name in wanted:
        if (position := find_lead(name, found)) is not None:
            return [position]
    raise RecordingError(
        f"{path}: no lead {' or '.join(wanted)}; the recording has {have}{left_out_remark}; choose "
        f"with --lead, such as --lead {','.join(dict.fromkeys([*wanted, found[0]]))}"
    )


def choose_leads_of(recording: OpenRecording, settings: WindowSettings) -> list[int]:
    """Returns the positions of an open recording's leads to embed, see `choose_leads`.

    Where every lead is wanted, the channels left out are logged: once in a process for all
    recordings that lack the same ones for the same reasons.
    """
    header, left_out = recording.header, recording.left_out
    positions = choose_leads(header.leads, settings, header.path, recording.left_out_remark)
    if settings.leads == (ALL_LEADS,) and left_out and left_out not in _mentioned:
        _mentioned.add(left_out)
        logging.warning("%s: left out %s", header.path, "; ".join(left_out))
    return positions


def window_starts(samples: int, fs: float, settings: WindowSettings) -> np.ndarray:
    """Returns the first sample, at the rate `fs`, of every whole window of a recording.

    A recording shorter than one window has one to be padded, where settings allow it, or none.
    """
    room = samples - preprocessing.native_samples(fs, settings.spec)
    if room < 0:
        enough = settings.pad and samples >= _SHORTEST_PADDED_S * fs
        return np.zeros(int(enough), np.int64)
    count = math.floor((room + 0.5) / (settings.stride_s * fs)) + 1
    starts = np.rint(np.arange(count) * settings.stride_s * fs).astype(np.int64)
    return starts[starts <= room]


def require_windows(samples: int, fs: float, settings: WindowSettings, path: str) -> np.ndarray:
    """Returns `window_starts`.

    Raises:
        RecordingError: No ECG is sampled at that rate, or the recording is too short.
    """
    if fault := rate_fault(fs):
        raise RecordingError(f"{path}: {fault}; {rate_remedy(fs)}")
    starts = window_starts(samples, fs, settings)
    if not len(starts):
        at_least = (
            f"at least {_SHORTEST_PADDED_S:g} s are needed even with padding"
            if settings.pad
            else "padding must be asked for (pad=True, --pad)"
        )
        raise RecordingError(
            f"{path}: {samples / fs:.2f} s is shorter than the window of {settings.window_s:g} s; "
            f"{at_least}"
        )
    return starts


def _window_input(
    native_mv: np.ndarray, fs: float, spec: PreprocessingSpec
) -> tuple[np.ndarray, str]:
    """Returns one lead's float32 [samples] input and its flag; zeros where there is no signal."""
    x = np.zeros(spec.samples, np.float32)
    (native_mv,), (spiky,) = remove_spikes(native_mv[None], fs)
    flag = quality.quality_flag(native_mv, fs)
    if not np.isfinite(native_mv).any():
        return x, flag
    filtered = preprocessing.preprocess(native_mv, fs, spec, allow_short=True)
    if fault := quality.filtered_fault(filtered):
        return x, flag if flag in quality.UNUSABLE else fault
    x[: filtered.size] = preprocessing.zscore(filtered)
    if flag == quality.OK and quality.is_noise(filtered, spec.fs):
        flag = quality.NOISE
    if flag == quality.OK and spiky:
        flag = quality.SPIKES
    if flag == quality.OK and filtered.size < spec.samples:
        flag = quality.PADDED
    return x, flag


def preprocess_windows(
    signal_mv: np.ndarray,
    fs: float,
    starts: Sequence[int],
    leads: Sequence[str],
    settings: WindowSettings,
) -> Windows:
    """Preprocesses every window exactly as a recording of the window's samples alone would be.

    Args:
        signal_mv: float64 [leads, samples], mV; NaN marks missing samples.
        fs: Sampling rate, Hz.
        starts: First sample of each window within `signal_mv`.
        leads: Names of its rows.
        settings: What is wanted. With several channels the rows are the encoder's channels.
    """
    begin = time.perf_counter()
    spec = settings.spec
    length = preprocessing.native_samples(fs, spec)
    inputs, flags = [], []
    for start in starts:
        for row in signal_mv[:, start : start + length]:
            x, flag = _window_input(row, fs, spec)
            inputs.append(x)
            flags.append(flag)
    x = np.stack(inputs)
    if settings.channels > 1:
        x = x.reshape(-1, settings.channels, spec.samples).transpose(0, 2, 1)
        faults = np.array(flags).reshape(-1, settings.channels)
        flags = [next((f for f in row if f != quality.OK), quality.OK) for row in faults.tolist()]
        names, copies = ["+".join(leads)], 1
    else:
        x, names, copies = x[:, :, None], list(leads), len(leads)
    return Windows(
        x=np.ascontiguousarray(x),
        lead=names * len(starts),
        start_s=np.repeat(np.asarray(starts, np.float64) / fs, copies),
        quality=flags,
        fs=fs,
        preprocess_s=time.perf_counter() - begin,
    )


def read_windows(
    recording: OpenRecording,
    positions: Sequence[int],
    starts: Sequence[int],
    settings: WindowSettings,
) -> Windows:
    """Reads and preprocesses consecutive windows, touching only their part of the signal.

    Args:
        recording: An open recording.
        positions: Of the leads wanted, as `choose_leads` returns them.
        starts: First sample of each window.
        settings: What is wanted.
    """
    begin = time.perf_counter()
    header = recording.header
    first = int(starts[0])
    stop = int(starts[-1]) + preprocessing.native_samples(header.fs, settings.spec)
    signal_mv = recording.read_positions(positions, first, stop)
    read_s = time.perf_counter() - begin
    leads = [header.leads[i] for i in positions]
    windows = preprocess_windows(signal_mv, header.fs, np.asarray(starts) - first, leads, settings)
    windows.start_s += first / header.fs
    windows.read_s = read_s
    return windows
