"""Recordings to preprocessed windows: which leads, which windows, and the encoder's input for each.

This is what the reading processes run, so it imports neither jax nor the models.
"""

import dataclasses
import math
import re
import time
from collections.abc import Sequence

import numpy as np

from clef_jax.data import quality, signals
from clef_jax.data.leads import STANDARD_LEADS, canonical_lead
from clef_jax.data.opened import OpenRecording
from clef_jax.data.readers import RecordingError
from clef_jax.data.signals import PREPROCESSING, PreprocessingSpec
from clef_jax.data.spikes import remove_spikes

DEFAULT_LEAD = "I"
ALL_LEADS = "all"
# A name that tells nothing about where the electrodes were.
_GENERIC_LEAD = re.compile(
    r"(ecg|ekg|lead|signal|channel|ch|col|column)?[\s_\-]*\d*", re.IGNORECASE
)
# Of a recording shorter than the window, what is enough to pad: the band-pass settles within it.
_SHORTEST_PADDED_S = 1.0


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
            raise ValueError(
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


def choose_leads(found: Sequence[str], settings: WindowSettings, path: str) -> list[str]:
    """Returns the leads to embed of a recording that has the leads `found` (canonical names).

    Raises:
        RecordingError: None, or for an encoder of several leads not all, of the wanted are there.
    """
    have = ", ".join(found)
    if settings.channels > 1:
        default = STANDARD_LEADS if settings.channels == len(STANDARD_LEADS) else ()
        wanted = [canonical_lead(name) for name in settings.leads or default]
        if len(wanted) != settings.channels:
            raise RecordingError(
                f"{path}: the encoder sees {settings.channels} leads at once, but {len(wanted)} "
                "were named; name each of them in the encoder's order"
            )
        if absent := [lead for lead in wanted if lead not in found]:
            raise RecordingError(f"{path}: no lead {', '.join(absent)}; the recording has {have}")
        return wanted
    if settings.leads == (ALL_LEADS,):
        return list(found)
    if settings.leads is None and len(found) == 1 and _GENERIC_LEAD.fullmatch(found[0]):
        return list(found)
    wanted = [canonical_lead(name) for name in settings.leads or (DEFAULT_LEAD,)]
    # Names that are none of the standard ones, such as MLII, keep the file's case.
    by_name = {lead.lower(): lead for lead in found}
    for lead in wanted:
        if lead.lower() in by_name:
            return [by_name[lead.lower()]]
    raise RecordingError(
        f"{path}: no lead {' or '.join(wanted)}; the recording has {have}; choose with --lead, "
        f"such as --lead {','.join(dict.fromkeys([*wanted, found[0]]))}"
    )


def _shortest_native(fs: float, spec: PreprocessingSpec) -> int:
    """Returns the fewest samples at `fs` that resample to at least `spec.samples`."""
    return math.floor((spec.samples - 1) * fs / spec.fs + 1e-6) + 1


def window_starts(samples: int, fs: float, settings: WindowSettings) -> np.ndarray:
    """Returns the first sample, at the rate `fs`, of every whole window of a recording.

    A recording shorter than one window has one to be padded, where settings allow it, or none.
    """
    room = samples - _shortest_native(fs, settings.spec)
    if room < 0:
        enough = settings.pad and samples >= _SHORTEST_PADDED_S * fs
        return np.zeros(int(enough), np.int64)
    count = math.floor((room + 0.5) / (settings.stride_s * fs)) + 1
    starts = np.rint(np.arange(count) * settings.stride_s * fs).astype(np.int64)
    return starts[starts <= room]


def require_windows(samples: int, fs: float, settings: WindowSettings, path: str) -> np.ndarray:
    """Returns `window_starts`, or raises `RecordingError` where there is no window."""
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
    whole = native_mv.size >= _shortest_native(fs, spec)
    (native_mv,), (spiky,) = remove_spikes(native_mv[None], fs)
    looked_at = native_mv[: round(spec.seconds * fs)]
    flag = quality.quality_flag(looked_at, fs)
    if not np.isfinite(looked_at).any():
        return x, flag
    if whole:
        filtered = signals.preprocess(native_mv, fs, spec)
    else:
        filtered = signals.resample(signals.fill_gaps(native_mv), fs, spec.fs)
        filtered = signals.bandpass(filtered, spec.fs, band_hz=spec.band_hz, order=spec.order)
    if fault := quality.filtered_fault(filtered):
        return x, flag if flag in quality.UNUSABLE else fault
    x[: filtered.size] = signals.zscore(filtered)
    if flag == quality.OK and quality.is_noise(filtered, spec.fs):
        flag = quality.NOISE
    if flag == quality.OK and spiky:
        flag = quality.SPIKES
    if flag == quality.OK and not whole:
        flag = quality.PADDED
    return x, flag


def preprocess_windows(
    signal_mv: np.ndarray,
    fs: float,
    starts: Sequence[int],
    leads: Sequence[str],
    settings: WindowSettings,
) -> Windows:
    """Preprocesses every window exactly as the recording cut at the window's start would be.

    Args:
        signal_mv: float64 [leads, samples], mV; NaN marks missing samples.
        fs: Sampling rate, Hz.
        starts: First sample of each window within `signal_mv`.
        leads: Names of its rows.
        settings: What is wanted. With several channels the rows are the encoder's channels.
    """
    begin = time.perf_counter()
    spec = settings.spec
    reach = signals.native_samples(fs, spec)
    inputs, flags = [], []
    for start in starts:
        for row in signal_mv[:, start : start + reach]:
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
    leads: Sequence[str],
    starts: Sequence[int],
    settings: WindowSettings,
) -> Windows:
    """Reads and preprocesses consecutive windows, touching only their part of the signal.

    Args:
        recording: An open recording.
        leads: The leads wanted, as `choose_leads` returns them.
        starts: First sample of each window.
        settings: What is wanted.
    """
    begin = time.perf_counter()
    fs = recording.header.fs
    first = int(starts[0])
    stop = int(starts[-1]) + signals.native_samples(fs, settings.spec)
    part = recording.read(leads=leads, start=first, stop=stop)
    read_s = time.perf_counter() - begin
    windows = preprocess_windows(part.signal_mv, fs, np.asarray(starts) - first, leads, settings)
    windows.start_s += first / fs
    windows.read_s = read_s
    return windows
