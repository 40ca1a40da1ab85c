"""Recordings to preprocessed windows: which leads, which windows, and the encoder's input for each.

This is what the reading processes run, so it imports neither jax nor the models.
"""

import dataclasses
import time
from collections.abc import Sequence

import numpy as np
from absl import logging

from clef_jax.data.recordings import OpenRecording, RecordingError
from clef_jax.data.signals import preprocessing, quality
from clef_jax.data.signals.leads import STANDARD_LEADS, find_lead, is_unnamed
from clef_jax.data.signals.quality import QualityFlag
from clef_jax.data.signals.rates import rate_fault, rate_remedy
from clef_jax.data.signals.spec import CLEF_V2, PreprocessingSpec
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
    """Which windows of which leads are wanted, and how they are preprocessed.

    Attributes:
        preprocessing: The encoder's.
        leads: Names in order of preference, of which the first found is taken; ("all",) for every
            lead; None for lead I, or the only lead of a recording that does not name it.
        window_s: Length of a window, seconds; that of `preprocessing` by default.
        stride_s: From one window's start to the next, seconds; `window_s` by default.
        pad: Whether a recording shorter than one window is padded with zeros after z-scoring.
        channels: Leads that the encoder sees at once; beyond 1, `leads` names all of them.
    """

    preprocessing: PreprocessingSpec = CLEF_V2
    leads: tuple[str, ...] | None = None
    window_s: float | None = None
    stride_s: float | None = None
    pad: bool = False
    channels: int = 1

    def __post_init__(self):
        window_s = self.preprocessing.seconds if self.window_s is None else self.window_s
        stride_s = window_s if self.stride_s is None else self.stride_s
        object.__setattr__(self, "window_s", window_s)
        object.__setattr__(self, "stride_s", stride_s)
        if not (window_s >= _SHORTEST_PADDED_S and stride_s > 0):
            raise WindowError(
                f"windows of {window_s} s every {stride_s} s; expected windows of at "
                f"least {_SHORTEST_PADDED_S:g} s and a positive stride"
            )

    @property
    def spec(self) -> PreprocessingSpec:
        """The preprocessing at this window's length."""
        assert self.window_s is not None, "set when it was made"
        return self.preprocessing.of_window(self.window_s)


@dataclasses.dataclass
class Windows:
    """Preprocessed windows of one recording, a row for each (window, lead).

    Attributes:
        x: float32 [rows, samples, channels], normalised: the encoder's input.
        lead: Lead of each row.
        start_s: float64 [rows], where each window begins in the recording.
        quality: Of each row.
        fs: The recording's own rate, Hz.
        read_s: Seconds spent reading.
        preprocess_s: Seconds spent preprocessing.
    """

    x: np.ndarray
    lead: list[str]
    start_s: np.ndarray
    quality: list[QualityFlag]
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
        return [at for at in positions if at is not None]
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
    starts = preprocessing.window_starts(samples, fs, settings.spec, settings.stride_s)
    if not len(starts) and settings.pad and samples >= _SHORTEST_PADDED_S * fs:
        return np.zeros(1, np.int64)
    return starts


def require_windows(samples: int, fs: float, settings: WindowSettings, path: str) -> np.ndarray:
    """Returns `window_starts`.

    Raises:
        RecordingError: No ECG is sampled at that rate, or the recording is too short.
    """
    if fault := rate_fault(fs, settings.preprocessing):
        remedy = rate_remedy(fs, settings.preprocessing)
        raise RecordingError(f"{path}: {fault}; {remedy}")
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


def _preprocessed(
    native_mv: np.ndarray, fs: float, spec: PreprocessingSpec
) -> tuple[np.ndarray, QualityFlag]:
    """Returns a window's lead, mV at `spec.fs`, and its flag; zeros where there is no signal."""
    (native_mv,), (spiky,) = remove_spikes(native_mv[None], fs, spec)
    flag = quality.quality_flag(native_mv, fs)
    known_mv = native_mv if np.isfinite(native_mv).any() else np.zeros_like(native_mv)
    x = preprocessing.preprocess(known_mv, fs, spec, allow_short=True)
    if fault := quality.filtered_fault(x):
        return np.zeros_like(x), flag if flag in quality.UNUSABLE else fault
    if flag == QualityFlag.OK and quality.is_noise(preprocessing.in_ecg_band(x, spec), spec.fs):
        flag = QualityFlag.NOISE
    if flag == QualityFlag.OK and spiky:
        flag = QualityFlag.SPIKES
    if flag == QualityFlag.OK and x.size < spec.samples:
        flag = QualityFlag.PADDED
    return x, flag


def _input(
    native_mv: np.ndarray, fs: float, spec: PreprocessingSpec
) -> tuple[np.ndarray, list[QualityFlag]]:
    """Returns the float32 [channels, samples] that the encoder sees at once, and their flags."""
    leads, flags = zip(*(_preprocessed(lead, fs, spec) for lead in native_mv), strict=True)
    z = preprocessing.normalise(np.stack(leads), spec)
    return np.pad(z, ((0, 0), (0, spec.samples - z.shape[1]))).astype(np.float32), list(flags)


def preprocess_windows(
    signal_mv: np.ndarray,
    fs: float,
    starts: Sequence[int] | np.ndarray,
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
    groups = [slice(i, i + settings.channels) for i in range(0, len(leads), settings.channels)]
    inputs, flags = [], []
    for start in starts:
        for group in groups:
            x, of_leads = _input(signal_mv[group, start : start + length], fs, spec)
            inputs.append(x.T)
            flags.append(
                next((flag for flag in of_leads if flag != QualityFlag.OK), QualityFlag.OK)
            )
    return Windows(
        x=np.ascontiguousarray(np.stack(inputs)),
        lead=["+".join(leads[group]) for group in groups] * len(starts),
        start_s=np.repeat(np.asarray(starts, np.float64) / fs, len(groups)),
        quality=flags,
        fs=fs,
        preprocess_s=time.perf_counter() - begin,
    )


def read_windows(
    recording: OpenRecording,
    positions: Sequence[int],
    starts: Sequence[int] | np.ndarray,
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
