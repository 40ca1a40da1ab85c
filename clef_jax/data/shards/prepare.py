"""One recording: read, check, preprocess, quantise; or the reason to leave it out."""

import dataclasses
import os

import numpy as np

from clef_jax.data.recordings import OpenRecording, open_recording
from clef_jax.data.recordings.recording import Header
from clef_jax.data.shards.format import quantise
from clef_jax.data.signals.leads import NOISE_LEADS, STANDARD_LEADS
from clef_jax.data.signals.preprocessing import native_samples, preprocess
from clef_jax.data.signals.quality import QUALITY, QualityLimits, filtered_fault, lead_faults
from clef_jax.data.signals.rates import rate_fault
from clef_jax.data.signals.spec import PreprocessingSpec
from clef_jax.data.signals.spikes import remove_spikes

# III - (II - I) against the largest of the three, as standard deviations. Rounding leaves up to
# 0.006 in PTB-XL and the 2021 Challenge; LUDB's headers, whose gains differ by lead, 0.06 to 0.9.
_EINTHOVEN_RESIDUAL = 0.05


class Rejection(Exception):
    """Why a recording is left out; the text up to the first colon names the kind of fault."""


@dataclasses.dataclass(frozen=True)
class PreparedRecord:
    """A recording ready for its shard.

    Attributes:
        header: What the recording says of itself.
        leads: Names of the good leads, in the order of `NOISE_LEADS`.
        steps: int16 [leads, samples].
        scale_mv: float32 [leads], mV per step.
        contradicts_einthoven: Whether lead III is far from II - I.
        spiky: Whether `remove_spikes` found any in these leads.
    """

    header: Header
    leads: tuple[str, ...]
    steps: np.ndarray
    scale_mv: np.ndarray
    contradicts_einthoven: bool
    spiky: bool


def _refuse_escape(recording: OpenRecording, folder: str) -> None:
    root = os.path.realpath(folder)
    for file in recording.other_files():
        if os.path.commonpath([root, os.path.realpath(file)]) != root:
            raise Rejection(f"outside the records folder: {file} is a link to elsewhere; refused")


def _known_leads(header: Header) -> list[str]:
    return [lead for lead in NOISE_LEADS if lead in header.leads]


def _usable_leads(faults: dict[str, str | None], min_leads: int) -> list[str]:
    good = [lead for lead, fault in faults.items() if fault is None]
    if sum(lead in STANDARD_LEADS for lead in good) >= min_leads:
        return good
    bad = "; ".join(f"{lead} {fault}" for lead, fault in faults.items() if fault)
    missing = ", ".join(lead for lead in STANDARD_LEADS if lead not in faults)
    if not bad:
        raise Rejection(f"missing leads: {missing}")
    raise Rejection(f"bad leads: {bad}" + (f"; missing: {missing}" if missing else ""))


def _contradicts_einthoven(x: np.ndarray, leads: list[str]) -> bool:
    if leads[:3] != ["I", "II", "III"]:
        return False
    residual = np.std(x[2] - (x[1] - x[0]))
    return bool(residual > _EINTHOVEN_RESIDUAL * np.std(x[:3], axis=1).max())


def prepare_record(
    path: str,
    spec: PreprocessingSpec,
    *,
    confine_to: str | None = None,
    min_leads: int = len(STANDARD_LEADS),
    adu_per_mv: float | None = None,
    quality: QualityLimits = QUALITY,
) -> PreparedRecord:
    """Reads, checks and preprocesses one recording.

    Args:
        path: The WFDB record.
        spec: The preprocessing.
        confine_to: Folder that its files must lie in, symbolic links followed; anywhere when None.
        min_leads: Good standard leads it needs; leads with faults are dropped.
        adu_per_mv: See `read_recording`.
        quality: Thresholds.

    Raises:
        Rejection: The recording is not good enough.
        RecordingError: It cannot be read; `RecordingUnavailable` where it may be, later.
    """
    recording = open_recording(path, adu_per_mv=adu_per_mv)
    header = recording.header
    if confine_to is not None:
        _refuse_escape(recording, confine_to)
    if fault := rate_fault(header.fs, spec):
        raise Rejection(fault)
    needed = native_samples(header.fs, spec)
    if header.samples < needed:
        raise Rejection(
            f"too short: {header.samples} samples at {header.fs:g} Hz, needs {spec.seconds:g} s"
        )
    present = _known_leads(header)
    if not present:
        raise Rejection(f"missing leads: none of the 12, only {', '.join(header.leads)}")
    signal_mv = recording.read(leads=present, stop=needed).signal_mv
    signal_mv, spiky = remove_spikes(signal_mv, header.fs, spec)
    faults = dict(zip(present, lead_faults(signal_mv, header.fs, quality), strict=True))
    sound = _usable_leads(faults, min_leads)
    x = preprocess(signal_mv[[present.index(lead) for lead in sound]], header.fs, spec)
    for lead, filtered in zip(sound, x, strict=True):
        fault = filtered_fault(filtered, quality)
        faults[lead] = fault and f"{fault} after filtering"
    good = _usable_leads(faults, min_leads)
    x = x[[sound.index(lead) for lead in good]]
    steps, scale_mv = quantise(x)
    return PreparedRecord(
        header=header,
        leads=tuple(good),
        steps=steps,
        scale_mv=scale_mv,
        contradicts_einthoven=_contradicts_einthoven(x, good),
        spiky=any(spiky[present.index(lead)] for lead in good),
    )
