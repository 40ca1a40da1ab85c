"""One recording: opened, then window by window read, checked, preprocessed and quantised."""

import dataclasses
import functools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from clef_jax.data.recordings import OpenRecording
from clef_jax.data.recordings.formats import open_hinted
from clef_jax.data.recordings.recording import Header
from clef_jax.data.shards.format import quantise
from clef_jax.data.shards.left_out import NoteKind, RejectionKind
from clef_jax.data.shards.plan import WriteOptions
from clef_jax.data.signals.montage import Montage
from clef_jax.data.signals.preprocessing import native_samples, preprocess, window_starts
from clef_jax.data.signals.quality import filtered_fault, lead_faults
from clef_jax.data.signals.rates import rate_fault
from clef_jax.data.signals.spikes import remove_spikes
from clef_jax.errors import ClefError

# III - (II - I) against the largest of the three, as standard deviations. Rounding leaves up to
# 0.006 in PTB-XL and the 2021 Challenge; LUDB's headers, whose gains differ by lead, 0.06 to 0.9.
_EINTHOVEN_RESIDUAL = 0.05
_LIMB_LEADS = ("I", "II", "III")


class Rejection(ClefError):
    """Why a recording, or a window of it, is left out.

    Attributes:
        kind: In a word; the message says it in full.
    """

    def __init__(self, kind: RejectionKind, reason: str):
        super().__init__(reason)
        self.kind = kind


@dataclasses.dataclass(frozen=True)
class PreparedWindow:
    """A window ready for its shard.

    Attributes:
        start_s: Where it begins in the recording, seconds.
        leads: Names of the good leads, in the montage's order.
        steps: int16 [leads, samples].
        scale_mv: float32 [leads], mV per step.
        bad_leads: The recording's other leads of the montage, each with its fault.
        contradicts_einthoven: Whether lead III is far from II - I.
        spiky: Whether `remove_spikes` found any in these leads.
    """

    start_s: float
    leads: tuple[str, ...]
    steps: np.ndarray
    scale_mv: np.ndarray
    bad_leads: Mapping[str, str]
    contradicts_einthoven: bool
    spiky: bool


@dataclasses.dataclass(frozen=True)
class BadWindow:
    """A window that is not good enough: where it begins, seconds, and why."""

    start_s: float
    why: Rejection


@dataclasses.dataclass(frozen=True)
class PreparedRecord:
    """A recording whose windows are prepared when they are asked for.

    Attributes:
        header: What it says of itself.
        notes: What of it is left out, but for windows and bad leads.
        starts_s: Where its windows begin, seconds.
        windows: Its windows, in order. Asking for one raises `RecordingError` where it cannot be
            read.
    """

    header: Header
    notes: tuple[tuple[NoteKind, str], ...]
    starts_s: Sequence[float]
    windows: Iterator[PreparedWindow | BadWindow]


def prepare_record(
    path: str, options: WriteOptions, *, confine_to: str | None = None
) -> PreparedRecord:
    """Opens a recording and checks what can be known without its samples.

    Args:
        path: The recording.
        options: What is wanted of it.
        confine_to: Folder that its files must lie in, symbolic links followed; anywhere when None.

    Raises:
        Rejection: The recording is not good enough.
        RecordingError: It cannot be read; `RecordingUnavailable` where it may be, later.
    """
    if confine_to is not None:
        _refuse_escape([path], confine_to)
    recording = open_hinted(path, options.hints)
    if confine_to is not None:
        _refuse_escape(recording.other_files(), confine_to)
    header, spec = recording.header, options.spec
    if fault := rate_fault(header.fs, spec):
        raise Rejection(RejectionKind.UNUSABLE_RATE, fault)
    starts = window_starts(header.samples, header.fs, spec)
    if not len(starts):
        raise Rejection(
            RejectionKind.TOO_SHORT,
            f"too short: {header.samples} samples at {header.fs:g} Hz, needs {spec.seconds:g} s",
        )
    positions = _positions(header.leads, options.montage)
    if not positions:
        raise Rejection(
            RejectionKind.MISSING_LEADS,
            f"missing leads: none of {', '.join(options.montage.leads)}, only "
            f"{', '.join(header.leads)}{recording.left_out_remark}",
        )
    wanted = starts if options.all_windows else starts[:1]
    return PreparedRecord(
        header,
        tuple(_notes(recording, positions, len(starts), options)),
        (wanted / header.fs).tolist(),
        _windows(recording, positions, wanted, options),
    )


def _refuse_escape(files: Iterable[str], folder: str) -> None:
    root = os.path.realpath(folder)
    for file in files:
        if os.path.commonpath([root, os.path.realpath(file)]) != root:
            raise Rejection(
                RejectionKind.OUTSIDE,
                f"outside the records folder: {file} is a link to elsewhere; refused",
            )


@functools.lru_cache(maxsize=64)
def _positions(found: tuple[str, ...], montage: Montage) -> dict[str, int]:
    """Returns lead -> position in the recording, in the montage's order; of copies the first."""
    first: dict[str | None, int] = {}
    for position, name in enumerate(found):
        first.setdefault(montage.find(name), position)
    return {lead: first[lead] for lead in montage.leads if lead in first}


def _notes(
    recording: OpenRecording, positions: Mapping[str, int], windows: int, options: WriteOptions
) -> Iterator[tuple[NoteKind, str]]:
    header = recording.header
    if windows > 1 and not options.all_windows:
        yield (
            NoteKind.FIRST_WINDOW_ONLY,
            f"the first of {windows} windows of {options.spec.seconds:g} s; --windows=all takes "
            "every one",
        )
    taken = set(positions.values())
    if outside := [name for i, name in enumerate(header.leads) if i not in taken]:
        yield NoteKind.OUTSIDE_MONTAGE, ", ".join(outside)
    if recording.left_out:
        yield NoteKind.NO_ECG, "; ".join(recording.left_out)


def _windows(
    recording: OpenRecording,
    positions: Mapping[str, int],
    starts: np.ndarray,
    options: WriteOptions,
) -> Iterator[PreparedWindow | BadWindow]:
    fs = recording.header.fs
    length = native_samples(fs, options.spec)
    for start in map(int, starts):
        signal_mv = recording.read_positions(list(positions.values()), start, start + length)
        try:
            yield _prepare(signal_mv, fs, list(positions), start / fs, options)
        except Rejection as why:
            yield BadWindow(start / fs, why)


def _prepare(
    signal_mv: np.ndarray, fs: float, present: list[str], start_s: float, options: WriteOptions
) -> PreparedWindow:
    signal_mv, spiky = remove_spikes(signal_mv, fs, options.spec)
    found = zip(present, lead_faults(signal_mv, fs, options.quality), strict=True)
    faults = {lead: None if fault is None else fault.reason for lead, fault in found}
    sound = _usable_leads(faults, options)
    x = preprocess(signal_mv[[present.index(lead) for lead in sound]], fs, options.spec)
    for lead, filtered in zip(sound, x, strict=True):
        fault = filtered_fault(filtered, options.quality)
        faults[lead] = fault and f"{fault} after filtering"
    good = _usable_leads(faults, options)
    x = x[[sound.index(lead) for lead in good]]
    steps, scale_mv = quantise(x)
    return PreparedWindow(
        start_s=start_s,
        leads=tuple(good),
        steps=steps,
        scale_mv=scale_mv,
        bad_leads={lead: fault for lead, fault in faults.items() if fault},
        contradicts_einthoven=_contradicts_einthoven(x, good),
        spiky=any(spiky[present.index(lead)] for lead in good),
    )


def _usable_leads(faults: Mapping[str, str | None], options: WriteOptions) -> list[str]:
    good = [lead for lead, fault in faults.items() if fault is None]
    if sum(lead in options.leads_counted for lead in good) >= options.leads_needed:
        return good
    bad = "; ".join(f"{lead} {fault}" for lead, fault in faults.items() if fault)
    missing = ", ".join(lead for lead in options.leads_counted if lead not in faults)
    if not bad:
        raise Rejection(RejectionKind.MISSING_LEADS, f"missing leads: {missing}")
    raise Rejection(
        RejectionKind.BAD_LEADS, f"bad leads: {bad}" + (f"; missing: {missing}" if missing else "")
    )


def _contradicts_einthoven(x: np.ndarray, leads: list[str]) -> bool:
    if not set(_LIMB_LEADS) <= set(leads):
        return False
    limb = x[[leads.index(lead) for lead in _LIMB_LEADS]]
    residual = np.std(limb[2] - (limb[1] - limb[0]))
    return bool(residual > _EINTHOVEN_RESIDUAL * np.std(limb, axis=1).max())
